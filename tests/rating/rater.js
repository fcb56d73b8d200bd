// Rates a whole campaign as a person would, by the keyboard alone.
// node rater.js '{"url", "browser", "rater"}'
// Prints what was asked for over the network, what dialogs opened, what was shown first, and the last message.

const { chromium } = require("playwright-core");

async function main() {
  const ask = JSON.parse(process.argv[2]);
  const browser = await chromium.launch({ executablePath: ask.browser, args: ["--no-sandbox"] });
  const page = await browser.newPage();
  page.setDefaultTimeout(60_000);
  const requests = [], dialogs = [], errors = [];
  page.on("request", (request) => requests.push(request.url()));
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("dialog", (dialog) => (dialogs.push(dialog.message()), dialog.dismiss()));
  await page.goto(ask.url);
  await page.fill("#rater", ask.rater);
  await page.keyboard.press("Enter");
  await page.waitForSelector("#prompt:not(:empty)");
  const shown = { prompt: await page.textContent("#prompt"), markup: await page.locator("pre *").count() };
  await page.locator("#rater").blur();
  // Sent without a choice, a rating is refused on the page.
  await page.keyboard.press("Enter");
  const refused = await page.textContent("#message");
  for (let done = 0; done < ask.items; done++) {
    await page.waitForFunction((count) => document.querySelector("#progress").textContent.startsWith(`${count} of`), done);
    if (done === 1) {
      await page.keyboard.press("Backspace"); // once more the one before, the other way round
      await page.keyboard.press("3");
      await page.keyboard.press("Enter");
      await page.waitForFunction(() => document.querySelector("#progress").textContent.startsWith("1 of"));
      await page.waitForTimeout(300);
    }
    await page.keyboard.press("1");
    await page.keyboard.press("Enter");
  }
  await page.waitForFunction(() => document.querySelector("#message").textContent.startsWith("All are rated"));
  console.log(JSON.stringify({ requests, dialogs, errors, shown, refused }));
  await browser.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
