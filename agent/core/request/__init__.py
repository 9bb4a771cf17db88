"""One request at the agent that its client reached, as a machine of events and commands. Pure.

``machine`` decides; ``agent.gateway.runner`` performs its commands on sockets, and
``tests.support.simulated_agent`` on a simulated network.
"""
