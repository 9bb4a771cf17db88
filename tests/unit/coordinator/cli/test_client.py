"""The credentials of a profile, before gRPC's library sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.cli.client import read_credentials
from coordinator.cli.profiles import Profile
from protos.domain.errors import ConfigInvalid
from tests.support.certificates import p256_key, private_pem, self_signed_pem

KEY = p256_key()
GOOD = {"key.pem": private_pem(KEY), "cert.pem": self_signed_pem(KEY, ())}
GOOD["ca.pem"] = GOOD["cert.pem"]


def profile(folder: Path, **files: bytes) -> Profile:
    """A profile whose files are good but for ``files``."""
    for name, data in (GOOD | {f"{name}.pem": data for name, data in files.items()}).items():
        (folder / name).write_bytes(data)
    names = ("ca.pem", "cert.pem", "key.pem")
    return Profile(folder / "profile.toml", "c:7402", *(folder / name for name in names))


def test_a_pair_that_fits_is_read(tmp_path: Path) -> None:
    assert read_credentials(profile(tmp_path)) == (
        GOOD["ca.pem"],
        GOOD["key.pem"],
        GOOD["cert.pem"],
    )


@pytest.mark.parametrize(
    ("file", "data", "says"),
    [
        ("key", b"", "holds no key"),
        ("key", b"garbage", "holds no key"),
        ("key", private_pem(p256_key()), "is not the key of"),
        ("cert", b"", "holds no certificate"),
        ("cert", b"garbage", "holds no certificate"),
        ("ca", b"", "holds no certificate"),
    ],
)
def test_a_file_that_would_end_the_process_or_fail_each_handshake_is_one_message(
    tmp_path: Path, file: str, data: bytes, says: str
) -> None:
    with pytest.raises(ConfigInvalid, match=says) as refused:
        read_credentials(profile(tmp_path, **{file: data}))
    assert "edgeforge login" in refused.value.hint
