// Uses the server's page, or code-server, as a person would, and looks for what must not happen.
// node page.js '{"url", "browser", "acts": [[act, ...]], "width", "height", "theme"}'
// Prints what each `read` saw, what was asked of other servers, and every error of the page.

const { chromium } = require("playwright-core");

const ACTS = {
  go: (page, hash) => page.goto(`${page.base}/${hash}`),
  click: (page, name) => page.getByRole("button", { name, exact: true }).first().click(),
  press: (page, selector) => page.locator(selector).first().click(),
  hover: (page, name) => page.getByRole("menuitem", { name, exact: true }).hover(),
  item: (page, name) => page.getByRole("menuitem", { name, exact: true }).click(),
  type: async (page, selector, text) => page.locator(selector).first().fill(text),
  key: (page, key) => page.keyboard.press(key),
  write: (page, text) => page.keyboard.type(text, { delay: 15 }),
  choose: (page, label, value) => page.getByLabel(label, { exact: true }).selectOption(value),
  wait: (page, selector) => page.locator(selector).first().waitFor(),
  waitText: (page, text) => page.getByText(text).first().waitFor(),
  gone: (page, selector) => page.locator(selector).first().waitFor({ state: "detached" }),
  file: (page, selector, name, text) =>
    page.locator(selector).first().setInputFiles({ name, mimeType: "text/plain", buffer: Buffer.from(text) }),
  read: (page, selector) => page.locator(selector).first().innerText(),
  readInside: async (page, selector) => (await findInside(page, selector)).innerText(),
  count: (page, selector) => page.locator(selector).count(),
  run: (page, source) => page.evaluate(source),
  picture: (page, path) => page.screenshot({ path }),
  pause: (page, ms) => page.waitForTimeout(Number(ms)),
};

/** Finds what a frame of the page shows. */
async function findInside(page, selector) {
  for (let tries = 0; tries < 1200; tries++) {
    for (const frame of page.frames()) {
      const found = frame.locator(selector).first();
      if (await found.count()) return found;
    }
    await page.waitForTimeout(100);
  }
  throw new Error(`no frame shows ${selector}`);
}

async function main() {
  const ask = JSON.parse(process.argv[2]);
  const browser = await chromium.launch({ executablePath: ask.browser, args: ["--no-sandbox"] });
  const context = await browser.newContext({
    viewport: { width: ask.width ?? 1180, height: ask.height ?? 800 },
    colorScheme: ask.theme ?? "light",
    deviceScaleFactor: ask.scale ?? 1,
    hasTouch: (ask.width ?? 1180) < 600,
  });
  const page = await context.newPage();
  page.base = ask.url;
  page.setDefaultTimeout(90_000);
  const told = { read: [], foreign: [], errors: [] };
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(ask.url) && !url.startsWith("blob:")) told.foreign.push(url);
  });
  page.on("pageerror", (error) => told.errors.push(String(error)));
  page.on("dialog", (dialog) => {
    told.errors.push(`a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  await page.goto(ask.url);
  for (const [act, ...more] of ask.acts) {
    const seen = await ACTS[act](page, ...more);
    if (["read", "readInside", "count", "run"].includes(act)) told.read.push(seen);
  }
  console.log(JSON.stringify(told));
  await browser.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
