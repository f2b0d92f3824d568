// The intake beside the relay's: fastify takes a callback, or many as NDJSON, and BullMQ queues them before the 202.
// node server.cjs REDIS_PORT; prints its URL when it listens.
"use strict";
const fastify = require("fastify");
const { Queue } = require("bullmq");

const queue = new Queue("callbacks", { connection: { host: "127.0.0.1", port: Number(process.argv[2]) } });
const app = fastify({ bodyLimit: 64 * 1024 * 1024 });
app.addContentTypeParser("application/x-ndjson", { parseAs: "string" }, (request, body, done) => {
  done(null, body.trimEnd().split("\n").map((line) => JSON.parse(line)));
});
const options = { removeOnComplete: true };
app.post("/v1/platforms/:platform/callbacks", async (request, reply) => {
  const { platform } = request.params;
  reply.code(202);
  if (Array.isArray(request.body)) {
    const jobs = await queue.addBulk(request.body.map((data) => ({ name: "callback", data, opts: options })));
    return { accepted: jobs.length, platform };
  }
  const job = await queue.add("callback", request.body, options);
  return { id: job.id, platform, state: "pending" };
});

app.listen({ host: "127.0.0.1", port: 0 }).then(() => {
  console.log(JSON.stringify({ url: `http://127.0.0.1:${app.server.address().port}` }));
});
