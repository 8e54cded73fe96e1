"""What [s3] and the environment say of a bucket."""

from __future__ import annotations

import pytest

from fastmirror.errors import SettingsError
from fastmirror.ini import Ini, read_ini
from fastmirror.settings_s3 import read_s3

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
BANDERSNATCH = f"""
[mirror]
directory = /packages/some/prefix
storage-backend = s3
[s3]
local-directory = /srv/pypi
region_name = eu-central-1
aws_access_key_id = AKIAIOSFODNN7EXAMPLE
aws_secret_access_key = {SECRET}
endpoint_url = https://objects.example:9000/
signature_version = s3v4
config_param_ServerSideEncryption = AES256
verify_concurrency = 20
max_attempts = 5
"""
OWN = "[mirror]\ndirectory = /srv/pypi\n[s3]\nbucket = packages\n"


def config(text: str) -> Ini:
    return read_ini(text, "x.conf")


def test_the_file_of_bandersnatch_holds_with_one_line_more() -> None:
    warnings: list[str] = []
    settings, directory = read_s3(config(BANDERSNATCH), {"AWS_REGION": "elsewhere"}, warnings)
    assert directory == "/srv/pypi"
    assert (settings.bucket, settings.prefix) == ("packages", "some/prefix")
    assert (settings.region, settings.endpoint) == ("eu-central-1", "https://objects.example:9000")
    assert settings.credentials == ("AKIAIOSFODNN7EXAMPLE", SECRET, "")
    assert settings.headers == ("x-amz-server-side-encryption: AES256",)
    assert (settings.verify_concurrency, settings.attempts) == (20, 5)
    assert warnings == []


def test_without_that_line_it_is_named() -> None:
    text = BANDERSNATCH.replace("local-directory = /srv/pypi\n", "")
    with pytest.raises(SettingsError, match=r"x.conf:3: \[mirror\] directory: names a bucket.*local-directory = /"):
        read_s3(config(text), {}, [])


def test_a_bucket_of_its_own_leaves_the_directory_local() -> None:
    settings, directory = read_s3(config(OWN + "prefix = /some/prefix/\n"), {}, [])
    assert (settings.bucket, settings.prefix, directory) == ("packages", "some/prefix", "/srv/pypi")
    assert (settings.endpoint, settings.credentials, settings.attempts) == (None, None, 10)


def test_what_the_file_leaves_open_is_looked_up_where_the_tools_of_amazon_do() -> None:
    environment = {
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": "token",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9000",
        "AWS_CA_BUNDLE": "/etc/ssl/own.pem",
    }
    settings, _ = read_s3(config(OWN), environment, [])
    assert settings.credentials == ("AKIAIOSFODNN7EXAMPLE", SECRET, "token")
    assert (settings.region, settings.endpoint) == ("eu-west-1", "http://127.0.0.1:9000")
    assert settings.ca_bundle == "/etc/ssl/own.pem"


def test_keys_are_not_shown() -> None:
    read = config(BANDERSNATCH)
    settings, _ = read_s3(read, {}, [])
    shown = f"{settings!r}{read.effective()!r}"
    assert SECRET not in shown
    assert "AKIA" not in shown


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("aws_access_key_id = AKIA", r"x.conf:5: \[s3\] aws_access_key_id: given without aws_secret_access_key"),
        ("endpoint_url = s3.example", r"expected http://HOST or https://HOST"),
        ("endpoint_url = https://user:secret@s3.example", r"'https://\*\*\*@s3.example'.* without user and password"),
        ("signature_version = s3", "expected one of s3v4, v4"),
        ("prefix = some/../prefix", "expected a prefix of keys without empty parts"),
        (
            "config_param_StorageClas = x",
            r"not known \(did you mean 'StorageClass'\?\): expected one of config_p",
        ),
        ("max_attempts = 0", "expected a whole number from 1 to 100"),
    ],
)
def test_what_cannot_be_used_is_named(given: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read_s3(config(f"{OWN}{given}\n"), {}, [])


@pytest.mark.parametrize("name", ["a", "under/score", "naïve"])
def test_what_is_no_bucket_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match="expected the name of a bucket"):
        read_s3(config(OWN.replace("packages", name)), {}, [])


def test_a_bad_address_in_the_environment_is_named() -> None:
    with pytest.raises(SettingsError, match=r"AWS_ENDPOINT_URL.*expected http"):
        read_s3(config(OWN), {"AWS_ENDPOINT_URL": "s3.example"}, [])


def test_an_unknown_key_is_warned_of() -> None:
    warnings: list[str] = []
    read_s3(config(OWN + "verify_concurency = 5\n"), {}, warnings)
    assert warnings == ["x.conf:5: [s3] verify_concurency: unknown key, ignored (did you mean 'verify_concurrency'?)"]
