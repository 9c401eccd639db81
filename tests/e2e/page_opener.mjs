// Opens a page in Chromium and says what it saw: one JSON array on standard output. Driven by page.py.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const order = JSON.parse(process.argv[2]);
const require = createRequire(`${order.modules}/`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

// Nothing of the browser's own may go out while a page is looked at.
const QUIET = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const browser = await chromium.launch({ executablePath: order.chromium, headless: true, args: QUIET });
const seen = [];
for (const view of order.views) {
  const context = await browser.newContext({
    viewport: { width: view.width, height: 900 },
    colorScheme: view.scheme,
    // The page forbids scripts; axe-core is ours, not the page's.
    bypassCSP: true,
  });
  seen.push(await look(context, view));
  await context.close();
}
await browser.close();
process.stdout.write(JSON.stringify(seen));

async function look(context, view) {
  const page = await context.newPage();
  const console_ = [];
  const requests = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && console_.push(message.text()));
  page.on("pageerror", (error) => console_.push(String(error)));
  page.on("request", (request) => request.url() !== order.page && !request.url().startsWith("data:") && requests.push(request.url()));
  await page.goto(order.page, { waitUntil: "load" });
  const layout = await page.evaluate(() => {
    const width = window.innerWidth;
    const name = (node) => `${node.tagName.toLowerCase()}.${node.className.baseVal ?? node.className}`;
    const wide = [...document.querySelectorAll("body *")].filter((node) => node.getBoundingClientRect().right > width + 0.5);
    const [red, green, blue] = getComputedStyle(document.documentElement).backgroundColor.match(/\d+/g).map(Number);
    return {
      scroll_width: document.documentElement.scrollWidth,
      inner_width: width,
      too_wide: wide.slice(0, 5).map((node) => `${name(node)}: ${node.textContent.slice(0, 60)}`),
      background_is_dark: red + green + blue < 200,
      headings: [...document.querySelectorAll("h1, h2, h3")].map((node) => node.textContent),
    };
  });
  await page.screenshot({ path: view.screenshot, fullPage: true });
  const pdf = await page.pdf({ format: "A4" });
  await page.evaluate(axe);
  const audit = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const grave = audit.violations.filter((violation) => ["serious", "critical"].includes(violation.impact));
  return {
    ...layout,
    width: view.width,
    scheme: view.scheme,
    console: console_,
    requests,
    axe_passes: audit.passes.length,
    violations: grave.map((violation) => `${violation.id}: ${violation.nodes.slice(0, 4).map((node) => `${node.html} (${node.failureSummary})`).join("; ")}`),
    pdf_bytes: pdf.length,
    pdf_starts: pdf.subarray(0, 5).toString("latin1"),
  };
}
