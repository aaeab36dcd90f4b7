"""Users, teams, and the records that they own."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from sandbox.documents import Document, Invoice, Recipient, draft_document, draft_invoice

Plan = Literal["free", "pro", "agency"]
Item = TypeVar("Item")

_DEFAULT_USERS: tuple[tuple[str, int, int, int, Plan], ...] = (
    ("Ada", 12, 3, 4, "pro"),
    ("Grace", 37, 5, 12, "agency"),
    ("Linus", 1000, 25, 60, "pro"),
    ("Edsger", 0, 0, 0, "pro"),
    ("Barbara", 5, 1, 1, "free"),
)


class RecordList(Generic[Item]):
    """Records by ascending id; each is created when it is first read."""

    def __init__(self, draft: Callable[[int], Item]) -> None:
        self._draft = draft
        self._items: dict[int, Item | None] = {}
        self.version = 0

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item_id: int) -> bool:
        return item_id in self._items

    def place(self, ids: Iterable[int]) -> list[int]:
        placed = list(ids)
        self._items |= dict.fromkeys(placed)
        self.version += 1
        return placed

    def take_away(self, item_id: int) -> None:
        del self._items[item_id]
        self.version += 1

    def find(self, item_id: int) -> Item | None:
        if item_id not in self._items:
            return None
        item = self._items[item_id]
        if item is None:
            item = self._items[item_id] = self._draft(item_id)
        return item

    def pick(self, ids: Iterable[int]) -> list[Item]:
        found = (self.find(item_id) for item_id in ids)
        return [item for item in found if item is not None]

    def put_back(self, item_id: int, item: Item) -> None:
        """Use this record instead of drafting one."""
        self._items[item_id] = item

    def drafted(self) -> list[Item]:
        return [item for item in self._items.values() if item is not None]

    def ids(self) -> list[int]:
        return list(self._items)

    def all(self) -> list[Item]:
        return self.pick(self._items)


@dataclass(slots=True)
class Workspace:
    """The records of a user or a team."""

    documents: RecordList[Document]
    templates: RecordList[Document]
    invoices: RecordList[Invoice]
    opened_at: float
    recipients_cache: tuple[int, list[Recipient]] = (-1, [])

    def recipients(self) -> list[Recipient]:
        """Return every recipient of every document, by ascending id."""
        version, recipients = self.recipients_cache
        if version != self.documents.version:
            recipients = [one for document in self.documents.all() for one in document.recipients]
            self.recipients_cache = (self.documents.version, recipients)
        return recipients


@dataclass(slots=True)
class User:
    id: int
    name: str
    email: str
    plan: Plan
    desk: Workspace
    team_ids: set[int] = field(default_factory=set)

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "name": self.name, "email": self.email}

    def describe(self) -> dict[str, Any]:
        return {
            **self.to_json(),
            "plan": self.plan,
            "documents": len(self.desk.documents),
            "templates": len(self.desk.templates),
            "invoices": len(self.desk.invoices),
            "team_ids": sorted(self.team_ids),
        }


@dataclass(slots=True)
class Team:
    id: int
    name: str
    owner_id: int
    desk: Workspace


class Directory:
    """All users and teams; ids ascend and are never reused."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.users: dict[int, User] = {}
        self.teams: dict[int, Team] = {}
        self.last_ids = {"user": 0, "team": 0, "document": 1000, "invoice": 500}

    def add_defaults(self) -> None:
        for name, documents, templates, invoices, plan in _DEFAULT_USERS:
            counts = {"documents": documents, "templates": templates, "invoices": invoices}
            user = self.add_user(name, f"{name.lower()}@example.com", plan, **counts)
            if plan == "agency":
                self.add_team("Compilers", user, 8, 3)
                self.add_team("Debugging", user, 15, 2)

    def add_user(
        self, name: str, email: str | None, plan: Plan, *, documents: int, templates: int, invoices: int
    ) -> User:
        user_id = self._take_ids("user", 1)[0]
        address = email or f"user{user_id}@example.com"
        user = User(user_id, name, address, plan, self.open_desk(self._now()))
        self.add_documents(user.desk, documents)
        self.add_templates(user.desk, templates)
        user.desk.invoices.place(self._take_ids("invoice", invoices))
        self.users[user_id] = user
        return user

    def add_team(self, name: str, owner: User, documents: int, templates: int) -> Team:
        team = Team(self._take_ids("team", 1)[0], name, owner.id, self.open_desk(self._now()))
        self.add_documents(team.desk, documents)
        self.add_templates(team.desk, templates)
        self.teams[team.id] = team
        owner.team_ids.add(team.id)
        return team

    def add_documents(self, desk: Workspace, count: int) -> list[int]:
        return desk.documents.place(self._take_ids("document", count))

    def add_templates(self, desk: Workspace, count: int) -> list[int]:
        return desk.templates.place(self._take_ids("document", count))

    def _take_ids(self, kind: str, count: int) -> range:
        first = self.last_ids[kind] + 1
        self.last_ids[kind] += count
        return range(first, first + count)

    def open_desk(self, now: float) -> Workspace:
        """Return an empty desk; its records are drafted as of `now`."""
        return Workspace(
            RecordList(lambda number: draft_document(number, now)),
            RecordList(lambda number: draft_document(number, now, is_template=True)),
            RecordList(lambda number: draft_invoice(number, now)),
            now,
        )
