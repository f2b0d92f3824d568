// node post.mjs URL KEY BODY: post one callback, and repeat it under the same key until the answer is final. Node 18 or newer.

/** Return status, text and Retry-After (seconds) of one post; status 0: no answer. */
async function once(url, key, body) {
  try {
    const headers = { 'Idempotency-Key': key, 'Content-Type': 'application/json' }
    const answer = await fetch(url, { method: 'POST', headers, body, signal: AbortSignal.timeout(10_000) })
    return { status: answer.status, text: await answer.text(), after: Number(answer.headers.get('Retry-After')) || 0 }
  } catch (error) {
    return { status: 0, text: `no answer: ${error.cause ?? error}`, after: 0 }
  }
}

/** Return the relay's 202 answer. Error: refused for good, or no answer in so many tries. */
export async function post(url, key, body, tries = 8) {
  let last
  for (let n = 0; n < tries; n++) {
    const { status, text, after } = await once(url, key, body)
    if (status === 202) return text
    last = `${status} ${text}`
    if (status !== 0 && status < 500) throw new Error(`refused for good: ${last}`)
    const wait = Math.max(after, Math.min(30, 0.5 * 2 ** n) * (0.5 + Math.random() / 2))
    if (n + 1 < tries) await new Promise(done => setTimeout(done, wait * 1000))
  }
  throw new Error(`${last}, ${tries} times; keep it, and post it later under the same key`)
}

console.log(await post(...process.argv.slice(2, 5)))
