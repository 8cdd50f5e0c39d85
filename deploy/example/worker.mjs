// A worker in JavaScript, for Node 18 and later, without packages: REDISQ_QUEUE=orders node worker.mjs
// It takes REDISQ_TOKEN, or gets one with REDISQ_APP_ID and REDISQ_APP_SECRET; `redisq serve` is at REDISQ_GATEWAY.
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
const { REDISQ_GATEWAY: gateway = "http://127.0.0.1:8080", REDISQ_QUEUE: queue = "orders", ...env } = process.env;
const stop = new AbortController();
process.on("SIGTERM", () => stop.abort()).on("SIGINT", () => stop.abort());
let token = env.REDISQ_TOKEN;

async function handle({ seconds = 0 }, { id, attempt, lost }) { // your work; stop it when `lost` says so
  console.log("started", id, attempt);
  await sleep(seconds * 1000, undefined, { signal: lost });
  return { slept: seconds };
}
const post = (path, type, authorization, body, signal) =>
  fetch(gateway + path, { method: "POST", headers: { "Content-Type": type, authorization }, body, signal });
async function getToken() {
  const basic = "Basic " + btoa(`${env.REDISQ_APP_ID}:${env.REDISQ_APP_SECRET}`);
  const form = `grant_type=client_credentials&scope=work:${queue}`;
  return (await (await post("/_token", "application/x-www-form-urlencoded", basic, form)).json()).access_token;
}
async function call(action, body, signal) { // again and again until it is answered: every request may be repeated
  for (let pause = 100; ; pause = Math.min(2 * pause, 5000)) {
    try {
      token ??= await getToken();
      const answer = await post(`/${queue}/${action}`, "application/json", `Bearer ${token}`, JSON.stringify(body), signal);
      const reply = await answer.text();
      if (answer.ok || [400, 404, 409, 413, 422].includes(answer.status)) return [answer.status, reply && JSON.parse(reply)];
      if (answer.status === 401) token = env.REDISQ_TOKEN;
      console.error(action, reply);
    } catch (error) { if (signal?.aborted) return [0, {}]; console.error(action, error.message); }
    await sleep(pause * Math.random());
  }
}
async function work({ id, receipt, request, attempt }, lease) {
  const lost = new AbortController(); // the lease is renewed three times in its length; 409: it is another's by now
  const renew = async () => (await call(`${id}/_renew`, { receipt }))[0] === 409 && lost.abort();
  const beat = setInterval(renew, (lease * 1000) / 3);
  await handle(request, { id, attempt, lost: lost.signal })
    .then((result) => call(`${id}/_complete`, { receipt, result }))
    .catch((error) => call(`${id}/_fail`, { receipt, error: { type: `${error?.name}`, message: `${error?.message}` } }));
  clearInterval(beat);
}
while (!stop.signal.aborted) {
  const claim = { max: 4, wait: 20, worker: `node-${process.pid}`, claim: randomBytes(9).toString("base64url") };
  const [, { deliveries = [], lease }] = await call("_claim", claim, stop.signal);
  await Promise.all(deliveries.map((delivery) => work(delivery, lease)));
}
