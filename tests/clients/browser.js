// Types in code-server as a person would: opens a file, goes to a place, types, waits for ghost text, accepts, saves.
// node browser.js '{"url", "folder", "file", "line", "typed", "browser", "picture"}'; prints what the ghost text was.

const { chromium } = require("playwright-core");

async function main() {
  const ask = JSON.parse(process.argv[2]);
  const browser = await chromium.launch({ executablePath: ask.browser, args: ["--no-sandbox"] });
  const page = await browser.newPage({ viewport: { width: 960, height: 400 }, deviceScaleFactor: 1.5 });
  page.setDefaultTimeout(90_000);
  const opened = JSON.stringify([["openFile", `vscode-remote://${new URL(ask.url).host}${ask.file}`]]);
  await page.goto(`${ask.url}/?folder=${encodeURIComponent(ask.folder)}&payload=${encodeURIComponent(opened)}`);
  await page.waitForSelector(".monaco-editor .view-line");
  await page.waitForSelector("#codegemma\\.codegemma\\.codegemma, .statusbar-item[id*=codegemma]"); // it is active
  await page.keyboard.press("Control+g");
  await page.waitForSelector(".quick-input-widget input");
  await page.keyboard.type(`${ask.line}:999`);
  await page.keyboard.press("Enter");
  await page.waitForTimeout(500);
  await page.keyboard.type(ask.typed, { delay: 60 });
  await page.waitForSelector(".ghost-text-decoration, .ghost-text");
  await page.waitForTimeout(1500); // what follows is shown in lines of its own
  const shown = await page.locator(".ghost-text-decoration, .ghost-text .view-line").allTextContents();
  if (ask.picture) await page.screenshot({ path: ask.picture });
  await page.keyboard.press("Tab");
  await page.waitForSelector(".ghost-text-decoration", { state: "detached" });
  await page.keyboard.press("Control+s");
  await page.waitForTimeout(1500);
  console.log(JSON.stringify(shown.map((text) => text.replaceAll("\u00a0", " "))));
  await browser.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
