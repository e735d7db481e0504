// Drives unmodified y-websocket clients against a running AetherFlow:
//     node test.js http://127.0.0.1:7480
// Exit status 1 when anything is not as it must be.

import assert from 'node:assert/strict'
import * as encoding from 'lib0/encoding'
import * as Y from 'yjs'
import { Editor, RawSocket, until } from './clients.js'

const base = process.argv[2]
if (!/^http:\/\/[^/]+$/.test(base ?? '')) {
  console.error('usage: node test.js http://HOST:PORT')
  process.exit(2)
}

let rooms = 0
const newRoom = () => `tests/y websocket/${Date.now().toString(36)}-${rooms++}`
const pathOf = room => room.split('/').map(encodeURIComponent).join('/')
const rest = (path, options) => fetch(`${base}${path}`, options)
const textOf = async room => (await rest(`/v1/documents/${pathOf(room)}?format=text`)).text()

const sync = (kind, body) => {
  const encoder = encoding.createEncoder()
  encoding.writeVarUint(encoder, 0)
  encoding.writeVarUint(encoder, kind)
  encoding.writeVarUint8Array(encoder, body)
  return encoding.toUint8Array(encoder)
}

const updateOf = text => {
  const doc = new Y.Doc()
  doc.getText('content').insert(0, text)
  return Y.encodeStateAsUpdate(doc)
}

const session = async (pattern, access) => {
  const body = JSON.stringify({ user: 'test', grants: [{ pattern, access }] })
  const response = await rest('/v1/sessions', { method: 'POST', body })
  assert.equal(response.status, 201)
  return response.json()
}

const tests = {
  async 'concurrent edits diverge' () {
    const room = newRoom()
    const [a, b] = [new Editor(base, pathOf(room)), new Editor(base, pathOf(room))]
    await Promise.all([a.synced(), b.synced()])
    for (let i = 0; i < 300; i++) {
      a.text.insert(i % 7 === 0 ? 0 : a.text.length, `a${i} `)
      b.text.insert(b.text.length, `b${i} `)
      if (i % 5 === 0) b.text.delete(0, 2)
      if (i % 20 === 0) await new Promise(resolve => setImmediate(resolve))
    }
    await until('both hold all edits', () =>
      a.text.toString().includes('b299') && b.text.toString().includes('a299') &&
      a.text.toString() === b.text.toString())
    await until('state vectors equal', () =>
      Buffer.compare(Y.encodeStateVector(a.doc), Y.encodeStateVector(b.doc)) === 0)
    assert.equal(await textOf(room), a.text.toString())
    // A late joiner, from nothing.
    const late = new Editor(base, pathOf(room))
    await late.synced()
    assert.equal(late.text.toString(), a.text.toString())
    for (const editor of [a, b, late]) editor.destroy()
  },

  async 'edits made offline are lost' () {
    const room = newRoom()
    const [a, b] = [new Editor(base, pathOf(room)), new Editor(base, pathOf(room))]
    await Promise.all([a.synced(), b.synced()])
    a.text.insert(0, 'together. ')
    await b.shows('together. ')
    a.provider.disconnect()
    a.text.insert(a.text.length, 'alone. ')
    a.text.delete(0, 2)
    b.text.insert(b.text.length, 'meanwhile. ')
    a.provider.connect()
    await a.synced()
    await until('both equal', () => a.text.toString() === b.text.toString() && a.text.toString().length > 20)
    assert.match(b.text.toString(), /^gether\. .*alone\. /)
    assert.match(b.text.toString(), /meanwhile\. /)
    for (const editor of [a, b]) editor.destroy()
  },

  async 'a reconnecting editor is not seen again' () {
    const room = newRoom()
    const [a, b] = ['ada', 'grace'].map(name => new Editor(base, pathOf(room), { name }))
    await until('each sees both', () => [a, b].every(editor => editor.names.join() === 'ada,grace'))
    a.provider.disconnect()
    await until('ada is gone', () => b.names.join() === 'grace')
    a.provider.connect()
    await until('ada is back', () => b.names.join() === 'ada,grace')
    await until('ada sees grace', () => a.names.join() === 'ada,grace')
    a.provider.awareness.setLocalStateField('user', { name: 'ada lovelace' })
    await until('a change is seen', () => b.names.join() === 'ada lovelace,grace')
    // Without a word.
    a.provider.ws.terminate()
    a.provider.shouldConnect = false
    await until('ada is gone without saying so', () => b.names.join() === 'grace')
    for (const editor of [a, b]) editor.destroy()
  },

  async 'an update does not come back to its sender when it is durable' () {
    const room = newRoom()
    const raw = new RawSocket(base, pathOf(room))
    await until('step 1', () => raw.frames.length > 0)
    assert.deepEqual([...raw.frames[0].slice(0, 2)], [0, 0])
    const frame = sync(2, updateOf('durable'))
    await raw.send(frame)
    await until('echo', () => raw.frames.some(found => Buffer.compare(found, frame) === 0))
    await raw.send(sync(1, new Uint8Array([0, 0])))
    await raw.send(sync(0, new Uint8Array([0])))
    await until('step 2', () => raw.frames.some(found => found[0] === 0 && found[1] === 1))
    raw.socket.close()
  },

  async 'bad input disturbs others' () {
    const room = newRoom()
    const witness = new Editor(base, pathOf(room))
    await witness.synced()
    const cases = [
      ['a text frame', 'hello', 4400],
      ['an unknown type', new Uint8Array([77]), 4400],
      ['an empty frame', new Uint8Array([]), 4400],
      ['a truncated varint', new Uint8Array([0, 2, 0xff]), 4400],
      ['an update that is none', sync(2, new Uint8Array([200, 200, 1])), 4422],
      ['a state vector that is none', sync(0, new Uint8Array([9])), 4422],
      ['a huge frame', new Uint8Array(6 << 20), 1009]
    ]
    for (const [what, data, code] of cases) {
      const raw = new RawSocket(base, pathOf(room))
      await raw.send(data)
      await raw.closesWith(code).catch(error => { throw new Error(`${what}: ${error.message}`) })
    }
    witness.text.insert(0, 'still here')
    await until('durable', () => witness.provider.wsconnected)
    const second = new Editor(base, pathOf(room))
    await second.shows('still here')
    const metrics = await (await rest('/metrics')).text()
    assert.match(metrics, /aetherflow_gateway_refused_total\{code="text-frame"\} [1-9]/)
    assert.match(metrics, /aetherflow_gateway_refused_total\{code="undecodable-update"\} [1-9]/)
    for (const editor of [witness, second]) editor.destroy()
  },

  async 'a token is believed, or its grants are not kept' () {
    const room = newRoom()
    const wrong = new Editor(base, pathOf(room), { token: 'wrong' })
    await until('refused for good', () => wrong.closed !== null)
    assert.equal(wrong.closed.code, 4401)
    const writer = await session(`${room}*`, 'write')
    const reader = await session(room, 'read')
    const elsewhere = new Editor(base, pathOf(`other-${room}`), { token: writer.token })
    await until('forbidden', () => elsewhere.closed !== null)
    assert.equal(elsewhere.closed.code, 4403)
    const [w, r] = [writer, reader].map(({ token }) => new Editor(base, pathOf(room), { token }))
    await Promise.all([w.synced(), r.synced()])
    r.text.insert(0, 'not allowed')
    w.text.insert(0, 'allowed')
    await until('the reader reads', () => r.text.toString().includes('allowed'))
    await until('the writer writes', () => w.text.toString() === 'allowed')
    assert.equal(await textOf(room), 'allowed')
    assert.equal((await rest(`/v1/sessions/${writer.session_id}`, { method: 'DELETE' })).status, 204)
    const shown = await (await rest(`/v1/sessions/${writer.session_id}`)).json()
    assert.equal(shown.revoked, true)
    const again = new Editor(base, pathOf(room), { token: writer.token })
    await until('revoked', () => again.closed !== null)
    assert.equal(again.closed.code, 4401)
    for (const editor of [wrong, elsewhere, w, r, again]) editor.destroy()
  },

  async 'REST and sockets see different documents' () {
    const room = newRoom()
    const path = `/v1/documents/${pathOf(room)}`
    const editor = new Editor(base, pathOf(room))
    await editor.synced()
    const applied = await (await rest(path, { method: 'POST', body: updateOf('from REST') })).json()
    assert.match(applied.op_id, /^[0-9a-f-]{36}$/)
    assert.ok(applied.sequence >= 1)
    await editor.shows('from REST')
    const update = new Uint8Array(await (await rest(`${path}?format=update`)).arrayBuffer())
    const doc = new Y.Doc()
    Y.applyUpdate(doc, update)
    assert.equal(doc.getText('content').toString(), 'from REST')
    const vector = new Uint8Array(await (await rest(`${path}?format=state-vector`)).arrayBuffer())
    assert.equal(Y.decodeStateVector(vector).size, 1)
    assert.deepEqual(await (await rest(`${path}?format=json`)).json(), { content: 'from REST' })
    const since = Buffer.from(vector).toString('hex')
    const rest0 = new Uint8Array(await (await rest(`${path}?format=update&since=${since}`)).arrayBuffer())
    assert.deepEqual([...rest0], [0, 0])
    editor.destroy()
  },

  async 'a document over REST is never over or its past is lost' () {
    const room = newRoom()
    const path = `/v1/documents/${pathOf(room)}`
    const editor = new Editor(base, pathOf(room))
    await editor.synced()
    const first = await (await rest(path, { method: 'POST', body: updateOf('first') })).json()
    const named = await (await rest(`${path}?version=v1`, { method: 'POST' })).json()
    assert.deepEqual(named, { name: 'v1', sequence: first.sequence })
    await rest(path, { method: 'POST', body: updateOf('second') })
    await until('second', () => editor.text.toString().includes('second'))
    const past = at => rest(`${path}?at=${at}`)
    assert.equal(await (await past('version:v1')).text(), 'first')
    assert.equal(await (await past(`sequence:${first.sequence}`)).text(), 'first')
    assert.match(await (await past(`ms:${Date.now() + 1000}`)).text(), /second/)
    assert.equal((await (await past('version:v2')).json()).code, 'unknown-version')
    assert.equal((await past('sequence:999')).status, 404)
    const versions = await (await rest(`${path}?format=versions`)).json()
    assert.deepEqual(versions.map(version => version.name), ['v1'])
    assert.equal((await rest(path, { method: 'DELETE' })).status, 403)
    const { token } = await session(room, 'admin')
    const headers = { authorization: `Bearer ${token}` }
    assert.equal((await rest(path, { method: 'DELETE', headers })).status, 204)
    await until('closed', () => editor.closed !== null)
    assert.equal(editor.closed.code, 4404)
    const gone = await rest(path)
    assert.deepEqual([gone.status, (await gone.json()).code], [410, 'document-deleted'])
    editor.destroy()
  },

  async 'REST takes what it must refuse' () {
    const path = `/v1/documents/${pathOf(newRoom())}`
    const problem = async (wanted, response) => {
      const found = await response
      assert.equal(found.headers.get('content-type'), 'application/problem+json')
      const body = await found.json()
      assert.deepEqual([found.status, body.code], wanted)
      assert.ok(body.detail.length > 0)
    }
    await problem([400, 'invalid-request'], rest(`${path}?format=pdf`))
    await problem([400, 'invalid-document-id'], rest(`/v1/documents/${'x'.repeat(300)}`))
    await problem([422, 'undecodable-update'], rest(path, { method: 'POST', body: 'text' }))
    await problem([422, 'undecodable-update'], rest(path, { method: 'POST', body: new Uint8Array([0, 0]) }))
    await problem([413, 'message-too-large'], rest(path, { method: 'POST', body: new Uint8Array(5 << 20) }))
    await problem([401, 'token-refused'], rest(path, { headers: { authorization: 'Bearer wrong' } }))
    await problem([400, 'invalid-request'], rest('/v1/sessions', { method: 'POST', body: '{"user":5}' }))
    await problem([400, 'invalid-request'], rest('/v1/sessions/none'))
    await problem([404, 'not-found'], rest('/v1/sessions/018f0000-0000-7000-8000-000000000000'))
    await problem([404, 'not-found'], rest('/nowhere'))
  }
}

const chosen = process.argv[3]
let failed = 0
for (const [name, test] of Object.entries(tests)) {
  if (chosen && !name.includes(chosen)) continue
  const started = performance.now()
  try {
    await test()
    console.log(`ok    ${name} (${(performance.now() - started).toFixed(0)} ms)`)
  } catch (error) {
    failed++
    console.log(`FAIL  ${name}\n${error.stack}`)
  }
}
process.exit(failed === 0 ? 0 : 1)
