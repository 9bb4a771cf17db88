"""The coordinator's gRPC listeners: fleet, administration, enrolment."""
