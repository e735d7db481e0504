// Ends an appliance under two editors, by SIGKILL and by SIGINT, and starts it again on the same port:
//     node restart.js PATH_OF_AETHERFLOW DATA_DIR
// Exit status 1 when an edit is lost or somebody is not seen again.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { Editor, until } from './clients.js'

const [binary, dataDir] = process.argv.slice(2)
let appliance
process.on('exit', () => appliance?.kill('SIGKILL'))

const start = async http => {
  const flags = ['--control', '127.0.0.1:0', '--listen', '127.0.0.1:0', '--http', http, '--shards', '1', '--output', 'json', '--data-dir', dataDir]
  appliance = spawn(binary, ['dev', ...flags], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [line] = await once(appliance.stdout, 'data')
  return JSON.parse(line).http
}

const end = async signal => {
  const exited = once(appliance, 'exit')
  appliance.kill(signal)
  return exited
}

const base = await start('127.0.0.1:0')
const [a, b] = ['ada', 'grace'].map(name => new Editor(base, 'restarted', { name }))
await Promise.all([a.synced(), b.synced()])
for (const signal of ['SIGKILL', 'SIGINT']) {
  for (let i = 0; i < 200; i++) {
    a.text.insert(a.text.length, `a${i} `)
    b.text.insert(0, `b${i} `)
    if (i % 10 === 0) await new Promise(resolve => setImmediate(resolve))
  }
  const [status] = await end(signal)
  if (signal === 'SIGINT') assert.equal(status, 0)
  a.text.insert(0, `a without ${signal} `)
  b.text.insert(0, `b without ${signal} `)
  await start(base.slice('http://'.length))
  await until('both are equal', () => [a, b].every(({ provider, text }) =>
    provider.synced && text.toString() === a.text.toString() &&
    text.toString().includes(`a without ${signal}`) && text.toString().includes(`b without ${signal}`)))
  await until('each sees both', () => [a, b].every(({ names }) => names.join() === 'ada,grace'))
  const text = await (await fetch(`${base}/v1/documents/restarted`)).text()
  assert.equal(text, a.text.toString())
}
await end('SIGINT')
process.exit(0)
