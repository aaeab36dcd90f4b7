// A client of breezesync's gateway in one file, to copy: it needs Node 20, and no package.
//
//   const gateway = new Gateway('http://127.0.0.1:8702', process.env.GATEWAY_KEY)
//   for await (const { id } of gateway.connections({ user_id: 'ada' })) {
//     const answer = await gateway.request(id, 'GET', 'documents?page=1')
//     console.log(answer.status, await answer.json())
//   }
//
// Whatever the gateway itself refuses is thrown as Problem. What the provider answers is returned, errors included.

/** What the gateway refused, and why (RFC 9457): `type` is what to look at. */
export class Problem extends Error {
  constructor(status, found, retryAfter) {
    super(`${found.type ?? 'failed'}: ${found.detail ?? `The gateway answered ${status}.`}`)
    this.name = 'Problem'
    this.type = found.type ?? 'failed'
    this.status = status
    /** Seconds after which it may work; null if repeating it does not help. */
    this.retryAfter = /^\d+$/.test(retryAfter ?? '') ? Number(retryAfter) : null
    /** Where the user authorizes again, with a new connect link's token. */
    this.connectPath = found.connect_path ?? null
    /** Of a call without an answer: 'no' if it surely did not reach the provider, else 'unknown'. */
    this.carriedOut = found.carried_out ?? null
  }
}

export class Gateway {
  #key

  constructor(url, key, { seconds = 75 } = {}) {
    this.url = url.replace(/\/$/, '')
    this.seconds = seconds
    this.#key = key
  }

  /** Yields the connections that fit, page by page: `user_id`, `provider`, `status`. */
  async *connections(chosen = {}) {
    for (let cursor = null; ; ) {
      const query = new URLSearchParams({ ...chosen, ...(cursor && { cursor }) })
      const page = await this.#ask('GET', `/v1/connections?${query}`)
      yield* page.connections
      cursor = page.next_cursor
      if (cursor === null) return
    }
  }

  connection(id) {
    return this.#ask('GET', `/v1/connections/${encodeURIComponent(id)}`)
  }

  /** An access token that lives for `minTtl` seconds more, if the provider gives such. */
  token(id, minTtl = 60) {
    return this.#ask('POST', `/v1/connections/${encodeURIComponent(id)}/token`, { min_ttl: minTtl })
  }

  /** Calls the provider's API now; `path` follows the profile's api_url. Returns the provider's Response. */
  async request(id, method, path, { body, headers } = {}) {
    const below = `${this.url}/v1/connections/${encodeURIComponent(id)}/proxy/`
    const where = new URL(below + path.replace(/^\/+/, ''))
    if (!where.href.startsWith(below)) throw new RangeError(`${path} leads out of the API, perhaps to another connection`)
    const answer = await this.#send(method, where, { body, headers, redirect: 'manual' })
    if (answer.headers.get('breezesync-source') !== 'provider') throw await problemOf(answer)
    return answer
  }

  /** Has a call made as a job, at most once unless the method is safe; the same key gets the same call. */
  call(id, method, path, { idempotencyKey, body } = {}) {
    const asked = { method, path, idempotency_key: idempotencyKey, ...(body !== undefined && { body }) }
    return this.#ask('POST', `/v1/connections/${encodeURIComponent(id)}/calls`, asked)
  }

  /** A call as it is now. */
  callAgain(callId) {
    return this.#ask('GET', `/v1/calls/${encodeURIComponent(callId)}`)
  }

  /** A call once it has ended, or as it is after `seconds`; the event call.completed comes by itself. */
  async wait(callId, { seconds = 60, pause = 0.5 } = {}) {
    const until = Date.now() + seconds * 1000
    for (;;) {
      const call = await this.callAgain(callId)
      if (!['pending', 'running'].includes(call.status) || Date.now() > until) return call
      await new Promise((resolve) => setTimeout(resolve, pause * 1000))
    }
  }

  async #ask(method, path, asked) {
    const json = asked && { body: JSON.stringify(asked), headers: { 'content-type': 'application/json' } }
    const answer = await this.#send(method, this.url + path, json)
    if (!answer.ok) throw await problemOf(answer)
    return answer.json()
  }

  #send(method, url, { headers, ...more } = {}) {
    return fetch(url, {
      method,
      ...more,
      headers: { ...headers, authorization: `Bearer ${this.#key}` },
      signal: AbortSignal.timeout(this.seconds * 1000),
    })
  }
}

async function problemOf(answer) {
  const found = await answer.json().catch(() => null) // null, or no object: not the gateway, but something before it
  return new Problem(answer.status, Object(found), answer.headers.get('retry-after'))
}
