"""The section of the configuration about files of models and adapters."""

from __future__ import annotations

import re
from dataclasses import dataclass

from protos.domain.settings import setting

_MIB = 1024**2
_GIB = 1024 * _MIB
_BUCKET_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_./-]*)?")
_SERVER_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+/?")


@dataclass(frozen=True, slots=True)
class BlobsSection:
    """``[blobs]``: where files of models and adapters are kept."""

    #: s3://BUCKET or s3://BUCKET/PREFIX of an S3-compatible store; empty: a folder of state_dir.
    url: str = setting("")
    #: URL of the store's server; empty: that of AWS for the region. http:// is not encrypted.
    endpoint: str = setting("")
    #: Region of the bucket.
    region: str = setting("us-east-1")
    #: TOML file, readable by its owner only, with access_key_id and secret_access_key; empty: the
    #: environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or the machine's own role.
    credentials_file: str = setting("")
    #: A file that nothing names is deleted when it has not been found or sent for this long.
    gc_grace_s: float = setting(86_400.0, at_least=60)
    #: Bytes of all unfinished uploads together; they are in state_dir.
    partial_max_bytes: int = setting(256 * _GIB, at_least=_MIB)
    #: Of these, those of one account.
    partial_max_bytes_per_account: int = setting(128 * _GIB, at_least=_MIB)
    #: What one account may have: files of its versions, and what it sent that none of them names.
    account_max_bytes: int = setting(512 * _GIB, at_least=_MIB)
    #: An unfinished upload that nobody continues is deleted after this long.
    partial_age_s: float = setting(604_800.0, at_least=60)
    #: Bytes of the copies in state_dir of files of an object store that are tried at import.
    local_copy_max_bytes: int = setting(8 * _GIB, at_least=_MIB)


def check_blobs(blobs: BlobsSection, max_blob_bytes: int) -> list[str]:
    """Return mistakes between keys that are valid one by one."""
    problems = []
    if blobs.url and _BUCKET_URL.fullmatch(blobs.url) is None:
        problems.append("blobs.url: must be empty, s3://BUCKET or s3://BUCKET/PREFIX")
    if blobs.endpoint and _SERVER_URL.fullmatch(blobs.endpoint) is None:
        problems.append("blobs.endpoint: must be empty, http://HOST:PORT or https://HOST:PORT")
    if not blobs.url and (blobs.endpoint or blobs.credentials_file):
        problems.append("blobs.url: is required with blobs.endpoint or blobs.credentials_file")
    problems += [
        f"blobs.{name}: {limit_bytes} is below limits.max_blob_bytes"
        for name in ("partial_max_bytes", "partial_max_bytes_per_account", "account_max_bytes")
        if (limit_bytes := getattr(blobs, name)) < max_blob_bytes
    ]
    return problems
