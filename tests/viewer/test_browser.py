"""The page in a real browser.

1. From the link to a token by clicks and keys; its numbers are those of the Parquet file.
2. What a run writes appears without a reload.
3. Hostile content is text in the page, and no script of it runs.
4. No errors on the console, no serious fault that axe-core finds, at any width, light and dark.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ajet.monitor.rollout_store import read_rollouts, rollout_path
from ajet.schema.episode import Group
from ajet.schema.task import Task
from tests.viewer.browser_fixtures import CHROMIUM, MISSING, axe_source, viewer_process
from tests.viewer.run_folders import HOSTILE, RunWriter, an_episode

pytestmark = [pytest.mark.browser, pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]

WIDTHS = (1280, 800, 390)
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = {"executable_path": CHROMIUM, "args": ["--no-sandbox"], "timeout": WAIT_MS}
        browser = playwright.chromium.launch(**options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: the answers of one are hostile, another one has long ids and wide groups."""
    place = tmp_path_factory.mktemp("runs")
    demo = RunWriter(place / "demo")
    for step in (1, 2, 3):
        demo.step(step)
    name = HOSTILE.replace("\ud800", "").replace("\udfff", "")  # ids are written as UTF-8
    hostile = RunWriter(place / "hostile")
    episodes = [
        an_episode(0, task=name, says=HOSTILE),
        an_episode(1, task=name, says="y" * 1_000_000),
    ]
    hostile.step(1, [Group(task=Task(task_id=name), episodes=episodes)])
    long = "task-" + 40 * "without-a-blank_"
    answers = [an_episode(n, task=long, says=f"{n} {'z' * 300}") for n in range(12)]
    wide = RunWriter(place / "wide")
    wide.step(1, [Group(task=Task(task_id=long, main_query="why? " * 400), episodes=answers)])
    with (place / "wide/metrics.jsonl").open("a") as file:
        file.writelines(
            f'{{"step": {n}, "policy/loss": {"NaN" if n < 4 else -0.5}}}\n' for n in (2, 3, 4)
        )
    return place


@pytest.fixture(scope="module")
def link(place: Path) -> Iterator[str]:
    with viewer_process(place) as link:
        yield link


@pytest.fixture
def page(chromium: Any, link: str) -> Iterator[Any]:
    """A page that has opened the link; anything on its console fails the test."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("requestfailed", lambda request: said.extend(failure_of(request)))
    page.on("response", lambda r: said.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    page.goto(link)
    page.wait_for_selector("main:not([aria-busy]) h1")
    yield page
    context.close()
    assert said == []


def failure_of(request: Any) -> list[str]:
    """What is wrong; a request under way when its page is left is not."""
    return [] if request.failure == "net::ERR_ABORTED" else [f"failed: {request.url}"]


GO = """address => new Promise(done => {
    const before = location.href
    location.hash = address
    location.href === before ? done() : addEventListener("hashchange", () => done(), {once: true})
})"""


def go(page: Any, address: str) -> None:
    """To an address of the viewer, and wait until it is shown."""
    page.evaluate(GO, address)
    until(page, "!document.querySelector('main[aria-busy]')")
    page.wait_for_selector("main h1")


def until(page: Any, expression: str) -> None:
    """Wait until it holds. Playwright's own way needs `eval`, which the page's policy forbids."""
    for _ in range(1200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never: {expression}")


def test_from_the_link_to_a_token_whose_numbers_are_those_of_the_file(page, place):
    assert "token" not in page.url
    page.get_by_role("link", name="demo", exact=True).click()
    page.get_by_role("link", name="All episodes").click()
    page.get_by_label("Step", exact=True).select_option("2")
    page.get_by_label("Task", exact=True).fill("task-1")
    page.get_by_label("Success", exact=True).select_option("yes")
    page.get_by_role("status").filter(has_text="1 episode ·").wait_for()
    page.get_by_role("link", name="step 2, attempt 2, task task-1").click()
    page.get_by_role("button", name="tokens of call 1").click()
    page.wait_for_selector(".token.chosen")
    sample = next(
        s for s in read_rollouts(rollout_path(place / "demo", 2)) if s.episode_id == "e-2-task-1-2"
    )
    first = int(np.flatnonzero(sample.call_index == 1)[0])
    for token in range(first, first + 4):
        facts = {
            fact.get_attribute("data-fact"): fact.locator("dd").inner_text()
            for fact in page.locator(".token-facts [data-fact]").all()
        }
        assert int(facts["token"]) == token
        assert int(facts["id"]) == sample.ids[token]
        assert np.float32(facts["logprob"]) == sample.logprobs[token]
        assert np.float32(facts["advantage"]) == sample.advantages[token]
        assert int(facts["version"]) == sample.policy_versions[token]
        assert facts["call"] == "1 (solver)"
        page.keyboard.press("ArrowRight")
    until(page, f"location.hash.includes('token={first + 3}')")  # it is the last one


def test_a_late_answer_does_not_undo_a_later_choice(page):
    held = []

    def hold_the_first(route):
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route("**/api/tokens*", hold_the_first)
    go(page, "#/run/demo/episode/2/e-2-task-1-2")
    page.get_by_role("button", name="tokens of call 1").click()
    page.wait_for_selector(".token.chosen")
    with page.expect_response("**/api/tokens*"):
        held[0].continue_()
    page.wait_for_timeout(300)
    assert page.locator(".token.chosen").count() == 1


def test_the_link_may_stand_in_another_page(chromium, link):
    page = chromium.new_context().new_page()
    page.goto(link.partition("?")[0].replace("127.0.0.1", "localhost"))  # another site, no token
    page.evaluate("link => { location.href = link }", link)
    page.wait_for_selector("main h1")
    page.context.close()


def test_every_view_has_a_link(page, link):
    address = "#/run/demo/episode/2/e-2-task-1-2?token=12&colour=advantage"
    go(page, address)
    page.reload()
    page.wait_for_selector(".token.chosen")
    assert page.locator(".token-facts [data-fact=token] dd").inner_text() == "12"
    assert page.get_by_label("Colour").input_value() == "advantage"


def test_the_loss_mask_is_to_be_seen(page, place):
    go(page, "#/run/demo/episode/2/e-2-task-1-2")
    page.wait_for_selector(".token")
    sample = next(
        s for s in read_rollouts(rollout_path(place / "demo", 2)) if s.episode_id == "e-2-task-1-2"
    )
    classes = [span.get_attribute("class") for span in page.locator(".token[data-at]").all()]
    assert ["trained" in each for each in classes] == sample.loss_mask.tolist()


def test_a_group_stands_side_by_side_and_shows_what_differs(page):
    go(page, "#/run/demo/compare?step=2&phase=train&task=task-1")
    assert page.locator(".column").count() == 4
    assert "messages are the same in all" in page.locator("summary").first.inner_text()


def test_the_same_task_at_two_steps(page):
    go(page, "#/run/demo/episode/2/e-2-task-1-2")
    page.get_by_label("Same task at").select_option(index=1)
    page.wait_for_selector(".column")
    titles = page.locator(".column h2").all_inner_texts()
    assert {title.split(",")[0] for title in titles} == {"Step 1", "Step 2"}


def test_what_a_run_writes_appears_without_a_reload(chromium, tmp_path):
    run = RunWriter(tmp_path / "runs" / "live")
    run.step(1)
    with viewer_process(tmp_path / "runs" / "live") as link:
        page = chromium.new_context().new_page()
        page.goto(link)
        page.get_by_text("1 of 9").wait_for(timeout=WAIT_MS)
        page.wait_for_timeout(2500)  # the first question for news is behind us
        run.step(2)
        page.get_by_text("2 of 9").wait_for(timeout=WAIT_MS)
        label = page.locator(".plot").first.get_attribute("aria-label")
        assert "at step 2" in label
        page.context.close()


def test_values_that_are_no_numbers_are_seen(page):
    go(page, "#/run/wide")
    loss = page.locator("figure").filter(has_text="Loss")
    loss.get_by_text("no number at 2 of 4 steps").wait_for()
    loss.get_by_role("button", name="table").click()
    assert loss.locator("td").all_inner_texts() == ["-0.1", "nan", "nan", "-0.5"]


def test_hostile_content_is_text(page):
    go(
        page,
        "#/run/hostile/episode/1/"
        + json.loads(
            page.evaluate(
                "fetch('/api/episodes?run=hostile').then(r => r.json())"
                ".then(d => JSON.stringify(encodeURIComponent(d.rows.find("
                "r => r.repeat_index === 0).episode_id)))"
            )
        ),
    )
    text = page.locator("#call-1 .answer .said").inner_text()
    assert "<script>window.harmed = 1</script>" in text
    for escape in ("\\x1b[31mred", "\\u202egnirts", "\\ud800 lone \\udfff", "\\x00\\r"):
        assert escape in text
    assert page.evaluate("window.harmed") is None
    assert page.locator("main script, main img").count() == 0
    go(page, "#/run/hostile/episodes")
    assert "<script>" in page.locator("tbody").inner_text()


def test_a_line_of_a_megabyte_is_cut_and_shown_on_demand(page):
    go(page, "#/run/hostile/episodes?sort=repeat_index&order=desc")
    page.locator("tbody th a").first.click()
    page.wait_for_selector("#call-1")
    said = page.locator("#call-1 .answer .said")
    assert len(said.inner_text()) == 4000
    page.locator("#call-1").get_by_role("button", name="Show more").click()
    until(page, "document.querySelector('#call-1 .answer .said').textContent.length === 104000")
    over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert over <= 0


ADDRESSES = (
    "#/?runs=demo&runs=hostile",
    "#/run/demo",
    "#/run/demo/episodes",
    "#/run/demo/episode/2/e-2-task-1-2?token=12",
    "#/run/demo/compare?step=2&phase=train&task=task-1",
    "#/run/wide",
    "#/run/wide/episodes",
    f"#/run/wide/episode/1/e-0-task-{40 * 'without-a-blank_'}-0",
    f"#/run/wide/compare?step=1&phase=train&task=task-{40 * 'without-a-blank_'}",
)


@pytest.mark.parametrize("address", ADDRESSES, ids=range(len(ADDRESSES)))
def test_axe_finds_no_serious_fault_and_nothing_is_wider_than_the_page(page, address):
    page.evaluate("scrollTo(0, 0)")
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            go(page, address)
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, width
        found = page.evaluate(axe_source() + ";axe.run(document, {resultTypes: ['violations']})")
        serious = [
            (each["id"], each["nodes"][0]["html"], each["nodes"][0].get("failureSummary"))
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
        ]
        assert serious == [], theme
