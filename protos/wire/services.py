"""Conversion of service levels to and from messages."""

from __future__ import annotations

from protos.domain.service import Service
from protos.v1 import fleet_pb2


def service_to_wire(service: Service) -> fleet_pb2.Service:
    return fleet_pb2.Service(
        admitted=service.admitted,
        shed=service.shed,
        first_tokens=service.first_tokens,
        ttft_ms_p50=service.ttft_ms_p50,
        ttft_ms_p99=service.ttft_ms_p99,
    )


def service_from_wire(message: fleet_pb2.Service) -> Service:
    return Service(
        message.admitted,
        message.shed,
        message.first_tokens,
        message.ttft_ms_p50,
        message.ttft_ms_p99,
    )
