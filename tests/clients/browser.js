// Types in code-server as a person would: opens a file, goes to a place, types, waits for ghost text, accepts, saves.
// node browser.js '{"url", "folder", "file", "line", "typed", "browser", "picture", "tries", "accept"}'
// Accepts by the key "accept". Types the last character anew up to `tries` times. Prints the ghost text, and what the status bar said at first and then.

const { chromium } = require("playwright-core");

async function main() {
  const ask = JSON.parse(process.argv[2]);
  const browser = await chromium.launch({ executablePath: ask.browser, args: ["--no-sandbox"] });
  const page = await browser.newPage({ viewport: { width: 960, height: 400 }, deviceScaleFactor: 1.5 });
  page.setDefaultTimeout(90_000);
  const opened = JSON.stringify([["openFile", `vscode-remote://${new URL(ask.url).host}${ask.file}`]]);
  await page.goto(`${ask.url}/?folder=${encodeURIComponent(ask.folder)}&payload=${encodeURIComponent(opened)}`);
  await page.waitForSelector(".monaco-editor .view-line");
  const item = page.locator(".statusbar-item[id*=codegemma] a");
  await item.waitFor(); // the extension is active
  const before = await item.getAttribute("aria-label");
  await page.keyboard.press("Control+g");
  await page.waitForSelector(".quick-input-widget input");
  await page.keyboard.type(`${ask.line}:999`);
  await page.keyboard.press("Enter");
  await page.waitForTimeout(500);
  await page.keyboard.type(ask.typed, { delay: 60 });
  const ghost = page.locator(".ghost-text-decoration, .ghost-text").first();
  for (let tries = 0; tries < ask.tries && !(await ghost.isVisible()); tries++) {
    await page.waitForTimeout(3000);
    await page.keyboard.press("Backspace");
    await page.keyboard.type(ask.typed.at(-1));
  }
  await ghost.waitFor();
  await page.waitForTimeout(1500); // what follows is shown in lines of its own
  const after = await item.getAttribute("aria-label");
  const shown = await page.locator(".ghost-text-decoration, .ghost-text .view-line").allTextContents();
  if (ask.picture) await page.screenshot({ path: ask.picture });
  await page.keyboard.press(ask.accept);
  if (ask.accept !== "Tab") {
    await page.waitForTimeout(1500); // it is told, while the rest is still shown
    await page.keyboard.press("Escape");
  }
  await page.waitForSelector(".ghost-text-decoration", { state: "detached" });
  await page.keyboard.press("Control+s");
  await page.waitForTimeout(1500);
  console.log(JSON.stringify({ shown: shown.join("").replaceAll("\u00a0", " "), before, after }));
  await browser.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
