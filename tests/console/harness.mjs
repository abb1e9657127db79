// A real browser on the page, and what must hold wherever it goes: no error in the console, no
// request to another host, nothing that axe finds, in light and in dark, at a desk and in a hand.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const require = createRequire(import.meta.url);
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
export const PATIENCE_MS = 20_000;

export class Console {
  faults = [];

  static async open(base, options = {}) {
    const browser = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
      args: ["--no-sandbox", "--disable-dev-shm-usage"],
    });
    const opened = new Console();
    Object.assign(opened, { base, browser });
    await opened.fresh(options);
    return opened;
  }

  /** A page without anything that an earlier one left. */
  async fresh(options = {}) {
    await this.context?.close();
    this.context = await this.browser.newContext({
      viewport: { width: 1280, height: 900 },
      timezoneId: "Europe/Madrid",
      ...options,
    });
    this.page = await this.context.newPage();
    this.page.setDefaultTimeout(PATIENCE_MS);
    /** Refusals that a test provokes: the browser reports each as an error. */
    this.expected = [];
    /** Whom else the page may ask. */
    this.others = [];
    this.page.on("console", (message) => {
      const text = message.text();
      if (!["error", "warning"].includes(message.type())) return;
      if (this.expected.some((status) => text.includes(`status of ${status}`))) return;
      this.faults.push(`console: ${text}`);
    });
    this.page.on("pageerror", (error) => this.faults.push(`page: ${error.stack}`));
    this.page.on("dialog", (dialog) => {
      this.faults.push(`a dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    this.page.on("request", (request) => {
      const url = new URL(request.url());
      if (url.protocol !== "data:" && ![this.base, ...this.others].includes(url.origin)) this.faults.push(`a request to ${url.origin}`);
    });
  }

  async go(hash) {
    await this.page.goto(`${this.base}/#${hash}`);
  }

  /** Waits until the view shows this text, and returns what holds it. */
  async sees(text) {
    const found = this.page.locator("main").getByText(text).first();
    await found.waitFor();
    return found;
  }

  async until(what, attempt) {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      if (await attempt()) return;
      assert.ok(Date.now() < deadline, `no ${what} in time; the page shows: ${await this.page.innerText("body")}`);
      await this.page.waitForTimeout(50);
    }
  }

  /** What stands wherever one looks. */
  async holds(view) {
    for (const [colorScheme, width] of [["light", 1280], ["dark", 390]]) {
      await this.page.emulateMedia({ colorScheme });
      await this.page.setViewportSize({ width, height: 844 });
      const where = `${view}, ${colorScheme}, ${width} pixels`;
      const over = await this.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(over <= 0, `${where}: it is ${over} pixels too wide`);
      if (!(await this.page.evaluate(() => "axe" in window))) await this.page.evaluate(AXE);
      const { violations } = await this.page.evaluate((values) => axe.run(document, { runOnly: values }), RULES);
      const found = violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" | ")}`);
      assert.deepEqual(found, [], where);
      if (process.env.SCREENSHOTS) {
        await this.page.screenshot({ path: `${process.env.SCREENSHOTS}/${where.replace(/\W+/g, "-")}.png` });
      }
    }
    await this.page.emulateMedia({ colorScheme: "light" });
    await this.page.setViewportSize({ width: 1280, height: 900 });
    this.quiet();
  }

  quiet() {
    assert.deepEqual(this.faults, []);
  }

  async close() {
    await this.browser.close();
  }
}
