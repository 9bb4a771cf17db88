"""What a host can hold, as its agent says at its first message and the plan goes by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NodeHardware:
    """Empty and 0: not known, in what an older agent does not say, or no engine runs there."""

    #: "cuda", "rocm", "cpu"; empty: not known.
    accelerator_kind: str = ""
    #: Most that the models of one engine may take; 0: not known.
    weights_memory_bytes: int = 0
    #: Empty: not known.
    engine_version: str = ""
    #: In an engine at once; 0: it loads none.
    max_adapters: int = 0
    max_adapter_rank: int = 0
    #: Engines at once; 0: not known, which is one.
    max_engines: int = 0

    @property
    def engines(self) -> int:
        """How many models can be in engines at once."""
        return max(1, self.max_engines)


UNKNOWN_HARDWARE = NodeHardware()
