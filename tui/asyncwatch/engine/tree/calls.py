"""What one may ask of the supervisors of a running tree: the functions of OTP's `supervisor` module."""

from __future__ import annotations

from asyncwatch.engine.tree.child import ChildCounts, ChildInfo
from asyncwatch.engine.tree.node import Node
from asyncwatch.engine.tree.specs import ChildSpec
from asyncwatch.engine.tree.tree import Tree


class TreeCalls:
    """Requests to one supervisor of a tree.

    `under` is its path (`a/b` or `root/a/b`), its name if only one has it, or None for the root. Those that change
    something wait for their turn: between the tries of a restart loop, but not before a child that is being started and
    runs is ready, nor before one that is being stopped has ended; those that only ask are answered at once. A child
    that cannot start yet (the run is paused, its circuit is open, a rate limit holds it) holds up nobody but who asked
    for it.
    All raise `NoSuchSupervisor` if there is none, or if it ends before it answers.
    """

    async def start_child(
        self, child: ChildSpec | str | None = None, *args: object, under: str | None = None
    ) -> ChildInfo:
        """Add a child to a supervisor and start it; return when it is ready.

        Under a pool `child` is the key of the new child, None for the next number, and `args` follow the template's.
        A child that ignores its start is `stopped`; a temporary one, or one of a pool, is not kept then.

        Raises:
            AlreadyStarted: there is a child of that name, and it runs.
            AlreadyPresent: there is a child of that name; it does not run.
            SpecError: the child cannot be one of this supervisor.
            StartError: it raised before it was ready. It is not kept.

        """
        return await (await self._started_tree()).find(under).start_child(child, args)

    async def terminate_child(self, name: str, *, under: str | None = None) -> None:
        """Stop a child, its start, or the wait for its restart, for good; return when it has ended or was left behind.

        A child that is temporary or of a pool is forgotten; another can be started again.

        Raises:
            NotFound: there is no child of that name when the request's turn comes.
            SimpleOneForOne: it is the name of a pool's template.

        """
        await self._node(under).terminate_child(name)

    async def restart_child(self, name: str, *, under: str | None = None) -> ChildInfo:
        """Start a child that does not run; return when it is ready.

        Raises:
            NotFound: there is no child of that name.
            Running: it runs.
            Restarting: it is being restarted.
            SimpleOneForOne: the supervisor is a pool.
            StartError: it raised before it was ready. It is kept.

        """
        return await self._node(under).restart_child(name)

    async def delete_child(self, name: str, *, under: str | None = None) -> None:
        """Forget a child that does not run.

        Raises:
            NotFound: there is no child of that name.
            Running: it runs.
            Restarting: it is being restarted.
            SimpleOneForOne: the supervisor is a pool.

        """
        await self._node(under).delete_child(name)

    def which_children(self, *, under: str | None = None) -> list[ChildInfo]:
        """Return all children of a supervisor, in start order."""
        return self._node(under).which_children()

    def count_children(self, *, under: str | None = None) -> ChildCounts:
        """Return how many children a supervisor has."""
        return self._node(under).count_children()

    def get_childspec(self, name: str, *, under: str | None = None) -> ChildSpec:
        """Return the spec of a child; of a child of a pool, and by the template's own name, the template.

        Raises:
            NotFound: there is no child of that name.

        """
        return self._node(under).get_childspec(name)

    def _node(self, under: str | None) -> Node:
        return self._present_tree().find(under)

    async def _started_tree(self) -> Tree:
        """Return the tree of the run, started if that has not been."""
        raise NotImplementedError

    def _present_tree(self) -> Tree:
        """Return the tree of the run; NoSuchSupervisor if there is none."""
        raise NotImplementedError
