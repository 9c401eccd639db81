// Asks for a URL by `fetch` or by `https`, as any program on Node would. Only the probed host's name is resolved here,
// namely to nothing: a program that goes around the proxy says so and reaches nobody.
const [how, url] = process.argv.slice(1);
const dns = require("dns");
const { lookup } = dns;
dns.lookup = (host, options, done) => {
  const answer = typeof options === "function" ? options : done;
  if (host === new URL(url).hostname) {
    return process.nextTick(answer, new Error("plainsight-around"));
  }
  return lookup(host, options, done);
};
const failed = (error) => {
  for (let cause = error; cause; cause = cause.cause) {
    console.error(cause.code ?? "", cause.message);
  }
  process.exit(1);
};
if (how === "fetch") {
  fetch(url).then((response) => response.text()).then((text) => console.log(text), failed);
} else {
  require("https").get(url, (response) => response.pipe(process.stdout)).on("error", failed);
}
