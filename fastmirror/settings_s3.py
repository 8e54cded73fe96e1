"""The configuration's [s3]: bandersnatch's keys, what Amazon's tools read in the environment, and a few of ours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fastmirror import ini
from fastmirror.errors import SettingsError
from fastmirror.settings import S3Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEYS = frozenset({
    "aws_access_key_id", "aws_secret_access_key", "bucket", "endpoint_url", "lease", "local-directory", "max_attempts",
    "prefix", "region_name", "signature_version", "slash-keys", "verify_concurrency",
})  # fmt: skip
_PARAMETER = "config_param_"
# What bandersnatch hands to boto's put_object, and the header that each of these parameters becomes.
_HEADERS = {
    "ACL": "x-amz-acl",
    "BucketKeyEnabled": "x-amz-server-side-encryption-bucket-key-enabled",
    "ContentDisposition": "Content-Disposition",
    "ContentLanguage": "Content-Language",
    "ExpectedBucketOwner": "x-amz-expected-bucket-owner",
    "GrantFullControl": "x-amz-grant-full-control",
    "GrantRead": "x-amz-grant-read",
    "GrantReadACP": "x-amz-grant-read-acp",
    "GrantWriteACP": "x-amz-grant-write-acp",
    "RequestPayer": "x-amz-request-payer",
    "SSEKMSEncryptionContext": "x-amz-server-side-encryption-context",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "StorageClass": "x-amz-storage-class",
    "Tagging": "x-amz-tagging",
}
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,62}", re.ASCII)
_address = ini.url("http", "https")


def read_s3(config: ini.Ini, environment: Mapping[str, str], warnings: list[str]) -> tuple[S3Settings, str]:
    """Read what a tree in an object store needs; also returns the local directory. What is ignored is in `warnings`."""
    bucket, prefix, directory = _place(config)
    headers = _parameters(config, warnings)  # before the keys: what it looks at is shown
    settings = S3Settings(
        bucket=bucket,
        prefix=prefix,
        endpoint=_endpoint(config, environment),
        region=_text(config, environment, "region_name", ("AWS_REGION", "AWS_DEFAULT_REGION")) or "us-east-1",
        credentials=_credentials(config, environment),
        headers=headers,
        attempts=config.read("s3", "max_attempts", ini.whole(1, 100), 10),
        verify_concurrency=config.read("s3", "verify_concurrency", ini.whole(1, 1000), 50),
        ca_bundle=environment.get("AWS_CA_BUNDLE") or None,
        timeout_s=config.read("mirror", "timeout", ini.seconds, 10.0),
        lease=config.read("s3", "lease", ini.boolean, True),
        slash_keys=config.read("s3", "slash-keys", ini.boolean, False),
    )
    config.read("s3", "signature_version", ini.optional(ini.choice("s3v4", "v4")), None)
    return settings, directory


def _place(config: ini.Ini) -> tuple[str, str, str]:
    """(bucket, prefix, local directory). With a bucket of its own `directory` is local, else it is bandersnatch's."""
    directory = config.get("mirror", "directory")
    if directory is None:
        raise SettingsError(f"{config.source}: [mirror] directory: not set (hint: --directory /srv/pypi)")
    local = config.read("s3", "local-directory", ini.optional(ini.path), None)
    bucket, prefix = config.get("s3", "bucket"), config.get("s3", "prefix")
    if bucket is not None and bucket.value:
        name, keys = bucket.value, prefix.value if prefix else ""
    else:
        bucket = prefix = directory
        name, _, keys = ini.path(directory).strip("/").partition("/")
        if local is None:
            raise SettingsError(
                f"{directory.where()}: names a bucket, as storage-backend = s3: where state, staging and logs are kept"
                " has to be said too (hint: [s3] local-directory = /var/lib/fastmirror)"
            )
    if not _BUCKET.fullmatch(name):
        raise bucket.refused("the name of a bucket" if bucket is not directory else "/BUCKET/PREFIX")
    keys = keys.strip("/")
    if keys and (not keys.isprintable() or not {"", ".", ".."}.isdisjoint(keys.split("/"))):
        raise (prefix or bucket).refused("a prefix of keys without empty parts, . and ..")
    return name, keys, local or ini.path(directory)


def _text(config: ini.Ini, environment: Mapping[str, str], key: str, variables: tuple[str, ...]) -> str:
    """A value of the section, else of the first of these variables that is set; "" if there is none."""
    entry = config.get("s3", key)
    if entry is not None and entry.value:
        return entry.value
    for variable in variables:
        if value := environment.get(variable, "").strip():
            config.decided("s3", key, value, f"environment: {variable}")
            return value
    return ""


def _endpoint(config: ini.Ini, environment: Mapping[str, str]) -> str | None:
    variables = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    text = _text(config, environment, "endpoint_url", variables)
    if not text:
        return None
    entry = config.get("s3", "endpoint_url")
    if entry is None or not entry.value:
        name = next(variable for variable in variables if environment.get(variable, "").strip())
        entry = ini.Entry(name, "", "", (ini.Line(0, text),))
    address = _address(entry)
    if "@" in address.netloc:
        raise entry.refused("an address without user and password: the keys are aws_access_key_id and its secret")
    return address.geturl().rstrip("/")


def _credentials(config: ini.Ini, environment: Mapping[str, str]) -> tuple[str, str, str] | None:
    """The section's keys, else the environment's; those of the two are not mixed."""
    entries = [config.get("s3", key) for key in ("aws_access_key_id", "aws_secret_access_key")]
    given = [entry for entry in entries if entry is not None and entry.value]
    for entry in given:
        config.decided("s3", entry.key, "***", entry.origin)
    if len(given) == 1:
        other = ({"aws_access_key_id", "aws_secret_access_key"} - {given[0].key}).pop()
        raise SettingsError(f"{given[0].where()}: given without {other}")
    if given:
        return given[0].value, given[1].value, ""
    access_key, secret_key, token = (
        environment.get(f"AWS_{name}", "").strip() for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")
    )
    return (access_key, secret_key, token) if access_key and secret_key else None


def _parameters(config: ini.Ini, warnings: list[str]) -> tuple[str, ...]:
    """The headers that go with each object; a warning for each key that nothing is known of."""
    headers = []
    for entry in config.entries("s3"):
        name = entry.key.removeprefix(_PARAMETER)
        if entry.key in _KEYS:
            continue
        if name == entry.key:
            warnings.append(f"{entry.where()}: unknown key, ignored{ini.nearest(entry.key, _KEYS)}")
        elif name not in _HEADERS:
            known = ", ".join(f"{_PARAMETER}{parameter}" for parameter in _HEADERS)
            raise SettingsError(f"{entry.where()}: not known{ini.nearest(name, _HEADERS)}: expected one of {known}")
        elif not entry.value.isprintable():
            raise entry.refused("a value in one line")
        else:
            headers.append(f"{_HEADERS[name]}: {entry.value}")
    return tuple(headers)
