// The delivery beside the relay's: a BullMQ worker posts each job to the platform. BullMQ has no batches.
// node worker.cjs REDIS_PORT URL; prints a line when it works.
"use strict";
const http = require("http");
const { Worker } = require("bullmq");

const CONCURRENCY = 50;
const url = new URL(process.argv[3]);
const agent = new http.Agent({ keepAlive: true, maxSockets: CONCURRENCY });

function post(body) {
  return new Promise((resolve, reject) => {
    const headers = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) };
    const request = http.request(url, { method: "POST", agent, headers }, (answer) => {
      answer.resume();
      answer.on("end", () => {
        if (answer.statusCode < 300) resolve();
        else reject(new Error(`status ${answer.statusCode}`));
      });
    });
    request.on("error", reject);
    request.end(body);
  });
}

const connection = { host: "127.0.0.1", port: Number(process.argv[2]) };
const worker = new Worker("callbacks", (job) => post(JSON.stringify(job.data)), { connection, concurrency: CONCURRENCY });
worker.on("error", (error) => console.error(error));
worker.waitUntilReady().then(() => console.log(JSON.stringify({ ready: true })));
