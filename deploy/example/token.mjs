// Makes redisq tokens with nothing but Node, from REDISQ_APP_ID and REDISQ_APP_SECRET:
//     node token.mjs queue,get 'orders,reports.*' 900       operations, queues or prefixes, seconds
import { createHmac, hkdfSync, randomBytes } from "node:crypto";
import { pathToFileURL } from "node:url";

const encode = (bytes) => Buffer.from(bytes).toString("base64url");
const hmac = (key, bytes) => createHmac("sha256", key).update(bytes).digest();
const prefixed = (...texts) => Buffer.concat(texts.flatMap((text) => {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(Buffer.byteLength(text));
  return [length, Buffer.from(text)];
}));

export function sign(secret, claims) {
  const [, kid, key] = secret.split(".");
  const info = prefixed("redisq/token/v1", claims.app, kid);
  const tokenKey = Buffer.from(hkdfSync("sha256", Buffer.from(key, "base64url"), "", info, 32));
  const payload = encode(JSON.stringify(claims));
  return ["rq1", kid, payload, encode(hmac(tokenKey, prefixed("redisq.token.v1", kid, payload)))].join(".");
}

export function narrow(token, caveat) { // one of ops, q, scope, ip, exp and nbf, as { ops: ["get"] }
  const parts = token.split("."), tag = Buffer.from(parts.pop(), "base64url"), sealed = encode(JSON.stringify(caveat));
  return [...parts, sealed, encode(hmac(tag, prefixed(sealed)))].join(".");
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { REDISQ_APP_ID: app, REDISQ_APP_SECRET: secret, REDISQ_NAMESPACE: space = "redisq" } = process.env;
  const aud = process.env.REDISQ_AUDIENCE ?? `redisq:${space}`, iat = Math.floor(Date.now() / 1000);
  const [ops, q, ttl = "900"] = process.argv.slice(2), jti = encode(randomBytes(16)), exp = iat + Number(ttl);
  console.log(sign(secret, { app, aud, iat, nbf: iat, exp, jti, ops: ops.split(","), q: q.split(",") }));
}
