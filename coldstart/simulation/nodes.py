"""The node pool: bought when a replica finds no place, kept warm, given back when empty, lost."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from random import Random

from simpy import Environment

from coldstart.capacity.lengths import Z95
from coldstart.simulation.clock import later
from coldstart.simulation.inputs import NodeInput
from coldstart.simulation.replica import Replica

ALWAYS = -math.inf
HOUR_SECONDS = 3600.0


class Node:
    """One node: when it was asked for, whether the pool was empty then, whether it is to end."""

    __slots__ = ("bought", "doomed", "empty_since", "first", "free_gpus", "replicas")

    def __init__(self, bought: float, free_gpus: int, *, first: bool) -> None:
        self.bought, self.free_gpus, self.first = bought, free_gpus, first
        self.empty_since = bought
        self.doomed = False
        self.replicas: list[Replica] = []


class NodePool:
    """The nodes of one pool.

    `lost` is told the replicas of a node that will be taken away, `room` that one may be bought.

    A replica is ready when its own start is over and the node's: on a node with the image after
    the warm start, on one that is still coming when its first start is over, if that is later.
    """

    def __init__(
        self,
        environment: Environment,
        spec: NodeInput,
        rng: Random,
        lost: Callable[[list[Replica]], None],
        room: Callable[[], None],
    ) -> None:
        self._environment, self._spec, self._rng = environment, spec, rng
        self._lost, self._room = lost, room
        self._spread = math.log(spec.start_p95_over_p50) / Z95
        self._nodes: list[Node] = []
        self._ended_seconds = 0.0
        self.most = 0
        self.starts = {"first": 0, "fresh": 0, "warm": 0}

    def __len__(self) -> int:
        return len(self._nodes)

    def begin(self, replicas: list[Replica]) -> None:
        """Replicas and warm nodes that were there before the trace."""
        for replica in replicas:
            node = self._with_room() or self._buy(ALWAYS)
            if node is not None:
                self._take(node, replica)
        self._keep_warm(ALWAYS)

    def place(self, replica: Replica) -> float | None:
        """Put a replica on a node; in how many seconds it is ready, or None without a place."""
        now = self._environment.now
        spec = self._spec
        node = self._with_room()
        if node is None:
            node = self._buy(now)
            if node is None:
                return None
        node_start = spec.first_start_seconds if node.first else spec.fresh_start_seconds
        coming = node.bought + node_start - now
        kind = "warm" if coming <= spec.warm_start_seconds else "first" if node.first else "fresh"
        self.starts[kind] += 1
        self._take(node, replica)
        self._keep_warm(now)
        factor = math.exp(self._spread * self._rng.gauss(0.0, 1.0)) if self._spread else 1.0
        return max(coming, spec.warm_start_seconds) * factor

    def release(self, replica: Replica) -> None:
        """A replica has left its node, which goes too when it stays empty."""
        node = replica.node
        replica.node = None
        if node is None:
            return
        node.replicas.remove(replica)
        node.free_gpus += self._spec.gpus_per_replica
        if not node.replicas and not node.doomed:
            self._empty(node)

    def node_seconds(self) -> float:
        """What has been paid for so far."""
        now = self._environment.now
        return self._ended_seconds + sum(now - max(0.0, node.bought) for node in self._nodes)

    def _take(self, node: Node, replica: Replica) -> None:
        node.replicas.append(replica)
        node.free_gpus -= self._spec.gpus_per_replica
        replica.node = node

    def _with_room(self) -> Node | None:
        """The oldest node with a place, one in use before an empty one."""
        needed = self._spec.gpus_per_replica
        fitting = [n for n in self._nodes if n.free_gpus >= needed and not n.doomed]
        return min(fitting, key=lambda node: (not node.replicas, node.bought), default=None)

    def _buy(self, now: float) -> Node | None:
        if len(self._nodes) >= self._spec.max_nodes:
            return None
        node = Node(now, self._spec.gpus_per_node, first=not self._nodes)
        self._nodes.append(node)
        self.most = max(self.most, len(self._nodes))
        if self._spec.interruptions_per_node_hour:
            rate = self._spec.interruptions_per_node_hour / HOUR_SECONDS
            seconds = self._rng.expovariate(rate)
            later(self._environment, seconds, partial(self._interrupt, node))
        return node

    def _keep_warm(self, now: float) -> None:
        """Pause pods hold empty nodes, and make the pool buy others in their place."""
        while self._empty_nodes() < self._spec.warm_nodes and self._buy(now) is not None:
            pass

    def _empty_nodes(self) -> int:
        return sum(not node.replicas and not node.doomed for node in self._nodes)

    def _empty(self, node: Node) -> None:
        """Given back when it stays empty (Karpenter, consolidationPolicy WhenEmpty)."""
        node.empty_since = self._environment.now
        consolidate = partial(self._consolidate, node, node.empty_since)
        later(self._environment, self._spec.consolidate_after_seconds, consolidate)

    def _consolidate(self, node: Node, since: float) -> None:
        if (
            node in self._nodes
            and not node.replicas
            and node.empty_since == since
            and self._empty_nodes() > self._spec.warm_nodes
        ):
            self._remove(node)

    def _interrupt(self, node: Node) -> None:
        if node not in self._nodes:
            return
        node.doomed = True
        self._lost(list(node.replicas))
        # Pause pods of the node are evicted with the notice, and look for another at once.
        self._keep_warm(self._environment.now)
        later(self._environment, self._spec.notice_seconds, partial(self._reclaim, node))

    def _reclaim(self, node: Node) -> None:
        if node in self._nodes:
            self._remove(node)
            self._room()
            self._keep_warm(self._environment.now)

    def _remove(self, node: Node) -> None:
        self._nodes.remove(node)
        self._ended_seconds += self._environment.now - max(0.0, node.bought)
