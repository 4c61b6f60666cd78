"""What hypothesis chooses from: jobs, policies, outcomes and gates that meet each other often."""

from __future__ import annotations

from datetime import timedelta

import hypothesis.strategies as st

from skycap.engine.policy import BY_KIND, Figures, Limit, QueuePolicy, Rate
from skycap.outcome import Cancelled, Completed, DeadReason, Discarded, HandedBack, Held, Outcome, Retry, Snoozed
from tests.support.model import Draft

SECOND, MINUTE, HOUR, YEAR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=365)
NONE = timedelta(0)

drafts = st.builds(
    Draft,
    kind=st.sampled_from(["book", "mail"]),
    priority=st.sampled_from([10, 1, 100]),
    payload=st.fixed_dictionaries(
        {"partner": st.sampled_from(["a", "b"])}, optional={"to": st.sampled_from(["x@one.test", "y@ONE.test"])}
    ),
    delay=st.sampled_from([*5 * [NONE], 10 * SECOND, HOUR]),
    deadline=st.sampled_from([*8 * [None], 5 * SECOND, 20 * MINUTE]),
    unique=st.sampled_from([*4 * [None], "u1", "u2"]),
    within=st.sampled_from([None, 7 * MINUTE]),
    conflict=st.sampled_from(["keep", "replace", "debounce"]),
)

batches = st.lists(drafts, min_size=1, max_size=4)

limits = st.sampled_from(
    [
        Limit(name="partner", figures=Figures(concurrency=1), key="partner"),
        Limit(name="partner", figures=Figures(concurrency=2), key="partner", own={"a": Figures(concurrency=1)}),
        Limit(name="to", figures=Figures(rate=Rate(max=2, per=MINUTE)), key="to", shape="domain"),
        Limit(name="all", figures=Figures(rate=Rate(max=3, per=10 * SECOND), concurrency=2)),
        Limit(name="kind", figures=Figures(concurrency=1), key=BY_KIND),
        Limit(name="books", figures=Figures(concurrency=1), kinds=frozenset({"book"}), shared=True),
    ]
)

policies = st.builds(
    QueuePolicy,
    keep_finished=st.just(YEAR),
    keep_discarded=st.just(YEAR),
    keep_finished_count=st.sampled_from([100, 2]),
    fleet_concurrency=st.sampled_from([*4 * [None], 1, 3]),
    rate=st.sampled_from([*4 * [None], Rate(max=2, per=10 * SECOND), Rate(max=1, per=MINUTE)]),
    max_waiting=st.sampled_from([*4 * [None], 6]),
    limits=st.lists(limits, max_size=3, unique_by=lambda limit: limit.name).map(tuple),
)

delays = st.sampled_from([SECOND, 10 * SECOND, HOUR])
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Completed, result=st.sampled_from([None, {"n": 1}])),
    st.builds(Retry, delay=delays, error=st.just("broken")),
    st.builds(Snoozed, delay=delays, reason=st.just("not now")),
    st.builds(Held, delay=delays, reason=st.just("too many"), limit=st.sampled_from([None, "partner", "all"])),
    st.just(HandedBack()),
    st.builds(Cancelled, reason=st.just("no need")),
    st.builds(
        Discarded, reason=st.sampled_from([DeadReason.PERMANENT, DeadReason.UNKNOWN_KIND]), error=st.just("never")
    ),
)
gates = st.sampled_from(["kind:book", "kind:mail", "partner:a", "all"])
slots = st.sampled_from([2, 1, 3, 4, 0])
