"""Facts of the registry: publications of versions, and runtimes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import ClassVar

from coordinator.core.publications import Publication
from coordinator.store.fact_types import FactType, fact_json
from protos.domain.object_names import ObjectKind
from protos.domain.resources import Runtime


@dataclass(frozen=True, slots=True)
class PublicationRow:
    """A version of an object, removed ones too."""

    TYPE: ClassVar = FactType.PUBLICATION

    publication: Publication

    @property
    def key(self) -> str:
        """The version's name."""
        return self.publication.name

    def encode(self) -> bytes:
        """Return the payload."""
        values = asdict(self.publication)
        del values["name"]
        values["content_sha256"] = self.publication.content_sha256.hex()
        return fact_json(**values)

    @classmethod
    def decode(cls, key: str, payload: bytes) -> PublicationRow:
        """Return the fact in ``payload``."""
        value = json.loads(payload)
        return cls(
            Publication(
                name=key,
                kind=ObjectKind(value["kind"]),
                content_sha256=bytes.fromhex(value["content_sha256"]),
                published_by=value.get("published_by", ""),
                account_id=value.get("account_id", ""),
                source=value.get("source", ""),
                licence=value.get("licence", ""),
                ported_from=value.get("ported_from", ""),
                comparison=value.get("comparison", ""),
                order=value.get("order", 0),
                published_unix_ms=value.get("published_unix_ms", 0),
                removed_unix_ms=value.get("removed_unix_ms", 0),
            )
        )


@dataclass(frozen=True, slots=True)
class RuntimeRow:
    """A runtime."""

    TYPE: ClassVar = FactType.RUNTIME

    runtime: Runtime

    @property
    def key(self) -> str:
        """The runtime's name."""
        return self.runtime.name

    def encode(self) -> bytes:
        """Return the payload."""
        values = asdict(self.runtime)
        del values["name"]
        return fact_json(**values)

    @classmethod
    def decode(cls, key: str, payload: bytes) -> RuntimeRow:
        """Return the fact in ``payload``."""
        value = json.loads(payload)
        return cls(
            Runtime(
                name=key,
                engine_kind=value.get("engine_kind", "vllm"),
                version_constraint=value.get("version_constraint", ""),
                args=tuple(value.get("args", ())),
                load_format=value.get("load_format", ""),
                accelerators=tuple(value.get("accelerators", ())),
                account_id=value.get("account_id", ""),
            )
        )
