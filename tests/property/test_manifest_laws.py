"""Whatever passes the manifest's check stays inside its folder and holds no code."""

from __future__ import annotations

import posixpath

from hypothesis import given
from hypothesis import strategies as st

from protos.domain.errors import InvalidRequest
from protos.domain.manifest import check_manifest, check_path, manifest_sha256
from protos.domain.resources import ModelFile

segments = st.sampled_from(["", ".", "..", "a", "B-1", "~", "c.json", "w.safetensors", "x.bin"])
crafted = st.lists(segments, max_size=6).map("/".join)
paths = st.text(max_size=40) | crafted | crafted.map(lambda path: path.replace("/", "\\"))


@given(paths)
def test_accepted_paths_stay_inside_their_folder(path):
    try:
        check_path(path)
    except InvalidRequest:
        return
    assert posixpath.normpath(posixpath.join("/models/m", path)) == f"/models/m/{path}"
    assert path.isascii()
    assert path.isprintable()
    assert not path.lower().endswith((".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".py"))


@given(st.lists(paths.map(lambda path: ModelFile(path, b"s" * 32, 1)), max_size=5))
def test_accepted_manifests_have_config_weights_and_unique_paths(files):
    base = [ModelFile("config.json", b"s" * 32, 1), ModelFile("m.safetensors", b"s" * 32, 1)]
    try:
        check_manifest(base + files)
    except InvalidRequest:
        return
    names = [file.path for file in base + files]
    assert len(set(names)) == len(names)


files = st.builds(
    ModelFile, st.sampled_from("abcdef"), st.binary(min_size=32, max_size=32), st.integers(1, 9)
)


@given(st.lists(files, max_size=6, unique_by=lambda each: each.path), st.randoms())
def test_identity_does_not_depend_on_order(some, random):
    shuffled = list(some)
    random.shuffle(shuffled)
    assert manifest_sha256(shuffled) == manifest_sha256(some)


@given(
    st.lists(files, max_size=4, unique_by=lambda each: each.path),
    st.lists(files, max_size=4, unique_by=lambda each: each.path),
)
def test_different_manifests_have_different_identities(a, b):
    assert (manifest_sha256(a) == manifest_sha256(b)) is (set(a) == set(b))
