// How long the page takes until it can be used, and how evenly a long list scrolls:
//   node measure.mjs BASE PLANS [ROUNDS] [TRACE]
// BASE is a running `almanac up` whose list of plans from today on has PLANS plans. Prints JSON; beside
// each figure of scrolling stands that of a page with nothing but as many plain list items, in the same
// browser and scrolled in the same way. TRACE is a file for a trace of Chromium's of the scrolling.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const [base, wanted, rounds = "5", trace] = process.argv.slice(2);
const PLANS = Number(wanted);
const PATIENCE_MS = 60_000;
/** Turns of a wheel, as fast as a hand makes them: 9,000 pixels a second. */
const [TURN_PX, TURN_MS] = [300, 33];
const LONG_MS = 50;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});

/** A page of a context of its own: nothing is in its cache. */
async function withPage(work) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  try {
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    await page.addInitScript(watch);
    return await work(page);
  } finally {
    await context.close();
  }
}

/** Runs in the page before anything else does. */
function watch() {
  const seen = { frames: [], tasks: [], slow: [], shown: null, clicked: null, answered: null };
  globalThis.seen = seen;
  const observe = (type, take) => new PerformanceObserver((list) => list.getEntries().forEach(take)).observe({ type, buffered: true });
  observe("longtask", (one) => seen.tasks.push({ at: one.startTime, ms: one.duration }));
  observe("long-animation-frame", (one) =>
    seen.slow.push({
      at: one.startTime,
      ms: one.duration,
      // Style and layout go on from here to the end of the frame.
      layout: one.styleAndLayoutStart ? one.startTime + one.duration - one.styleAndLayoutStart : 0,
      scripts: one.scripts.map((script) => `${script.invoker} ${Math.round(script.duration)} ms`),
    }),
  );
  // What a frame shows is on the screen when the next one begins.
  const painted = (name) => requestAnimationFrame(() => requestAnimationFrame(() => (seen[name] = performance.now())));
  const hasRows = () => document.querySelector(".plans li") !== null;
  let wasEmpty = false;
  const look = () => {
    if (seen.clicked === null) {
      if (!hasRows()) return;
      if (!seen.isShowing) painted("shown");
      seen.isShowing = true;
      return;
    }
    if (!hasRows()) wasEmpty = true;
    else if (wasEmpty && !seen.isAnswering) {
      seen.isAnswering = true;
      painted("answered");
    }
  };
  const looking = new MutationObserver(look);
  looking.observe(document, { childList: true, subtree: true });
  // Of an event the time is that of the input, not of the moment at which a thread was free to look at it.
  addEventListener("click", (event) => (seen.clicked ??= event.timeStamp), { capture: true });
  seen.record = () => {
    looking.disconnect();
    let last = performance.now();
    seen.from = last;
    const frame = (now) => {
      seen.frames.push(now - last);
      last = now;
      seen.raf = requestAnimationFrame(frame);
    };
    // A first one to begin from.
    requestAnimationFrame((now) => ((last = now), (seen.raf = requestAnimationFrame(frame))));
  };
  seen.stop = () => cancelAnimationFrame(seen.raf);
}

const sorted = (values) => [...values].sort((one, other) => one - other);
const rank = (values, share) => sorted(values)[Math.min(values.length - 1, Math.floor(values.length * share))] ?? null;
const round = (ms) => (ms === null ? null : Math.round(ms * 10) / 10);

/** From the start of the navigation until the first plans are shown, and on for as long as a click on a filter
 *  needs until its answer is shown. */
async function opened() {
  return withPage(async (page) => {
    await page.goto(base);
    await page.waitForFunction(() => seen.shown !== null);
    const [x, y] = await page.getByRole("link", { name: "All dates" }).evaluate((link) => {
      const { x, y, width, height } = link.getBoundingClientRect();
      return [x + width / 2, y + height / 2];
    });
    await page.mouse.click(x, y);
    await page.waitForFunction(() => seen.answered !== null);
    return page.evaluate(() => {
      const { shown, clicked, answered, tasks } = seen;
      const entries = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
      return {
        paint_ms: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? null,
        shown_ms: shown,
        click_ms: answered - clicked,
        interactive_ms: shown + answered - clicked,
        long_tasks_ms: tasks.map((one) => one.ms),
        requests: entries.length,
        bytes: entries.reduce((sum, one) => sum + one.transferSize, 0),
      };
    });
  });
}

/** What was recorded since the last look. */
async function recorded(page) {
  const { frames, tasks, slow } = await page.evaluate(() => {
    seen.stop();
    const since = (list) => list.filter((one) => one.at >= seen.from);
    const taken = { frames: seen.frames, tasks: since(seen.tasks), slow: since(seen.slow) };
    seen.frames = [];
    return taken;
  });
  return {
    frames: frames.length,
    median_ms: round(rank(frames, 0.5)),
    p99_ms: round(rank(frames, 0.99)),
    longest_ms: round(Math.max(...frames)),
    over_50_ms: frames.filter((ms) => ms > LONG_MS).length,
    long_tasks: tasks.length,
    longest_task_ms: round(Math.max(0, ...tasks.map((one) => one.ms))),
    slowest_frames: slow
      .sort((one, other) => other.ms - one.ms)
      .slice(0, 5)
      .map((one) => ({ ms: round(one.ms), layout_ms: round(one.layout), scripts: one.scripts })),
  };
}

const remaining = (page) => page.evaluate(() => document.documentElement.scrollHeight - innerHeight - scrollY);

/** Turns the wheel until the end is reached and `more` has nothing more. */
async function scrolled(page, more) {
  await page.mouse.move(640, 600);
  await page.evaluate(() => seen.record());
  for (;;) {
    const next = new Promise((resolve) => setTimeout(resolve, TURN_MS));
    await page.mouse.wheel(0, TURN_PX);
    await next;
    if ((await remaining(page)) > 1) continue;
    if (!(await more())) break;
  }
  const steady = await recorded(page);
  // From end to end at once, several times.
  await page.evaluate(() => seen.record());
  for (const key of ["Home", "End", "Home", "PageDown", "PageDown", "End", "PageUp", "Home"]) {
    await page.keyboard.press(key);
    await page.waitForTimeout(400);
  }
  return { ...steady, jumps: await recorded(page) };
}

/** Looked for by hand: Playwright's own ways of finding and clicking work through the whole page, in its frames. */
async function list() {
  return withPage(async (page) => {
    await page.goto(base);
    await page.waitForFunction(() => seen.shown !== null);
    const said = () => page.evaluate(() => document.querySelector(".more")?.textContent ?? null);
    if (trace) await browser.startTracing(page, { path: trace });
    const figures = await scrolled(page, async () => {
      const before = await said();
      if (before === null) return false;
      const [x, y] = await page.evaluate(() => {
        const { x, y, width, height } = document.querySelector(".more button").getBoundingClientRect();
        return [x + width / 2, y + height / 2];
      });
      await page.mouse.click(x, y);
      await page.waitForFunction(
        (before) => {
          const more = document.querySelector(".more");
          return !more || (more.textContent !== before && !more.querySelector("button").disabled);
        },
        before,
      );
      return true;
    });
    if (trace) await browser.stopTracing();
    const plans = await page.evaluate(() => document.querySelectorAll(".plans li").length);
    assert.equal(plans, PLANS, "the list does not show all plans");
    return { plans, ...figures };
  });
}

/** The same of plain list items. */
async function plain() {
  return withPage(async (page) => {
    await page.goto("data:text/html,<!doctype html><title>plain</title><ul></ul>");
    await page.evaluate((plans) => {
      const items = Array.from({ length: plans }, (_, place) => {
        const item = document.createElement("li");
        item.textContent = `Plan ${place}`;
        item.style.height = "34px";
        return item;
      });
      document.querySelector("ul").append(...items);
    }, PLANS);
    return scrolled(page, async () => false);
  });
}

try {
  await withPage((page) => page.goto("about:blank"));
  const openings = [];
  for (let turn = 0; turn < Number(rounds); turn++) openings.push(await opened());
  const median = (name) => round(rank(openings.map((one) => one[name]), 0.5));
  const open = {
    rounds: openings.length,
    ...Object.fromEntries(["paint_ms", "shown_ms", "click_ms", "interactive_ms"].map((name) => [name, median(name)])),
    slowest_interactive_ms: round(Math.max(0, ...openings.map((one) => one.interactive_ms))),
    long_tasks: openings.map((one) => one.long_tasks_ms.map(round)),
    requests: openings[0]?.requests,
    bytes: openings[0]?.bytes,
  };
  console.log(JSON.stringify({ browser: browser.version(), open, scroll: await list(), plain: await plain() }, null, 1));
} finally {
  await browser.close();
}
