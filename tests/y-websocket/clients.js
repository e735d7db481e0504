// Real y-websocket clients, and the waiting that tests need.

import WebSocket from 'ws'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'

const WAIT_MS_MAX = 15_000

/** Waits until `condition` holds, looking again whenever one of the emitters has news. */
export const until = async (what, condition) => {
  const deadline = Date.now() + WAIT_MS_MAX
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`not within ${WAIT_MS_MAX} ms: ${what}`)
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

export class Editor {
  constructor (base, room, { token, name } = {}) {
    this.doc = new Y.Doc()
    this.text = this.doc.getText('content')
    this.closed = null
    this.provider = new WebsocketProvider(`${base.replace('http', 'ws')}/y`, room, this.doc, {
      WebSocketPolyfill: WebSocket,
      disableBc: true,
      params: token ? { token } : {}
    })
    this.provider.on('closed', closed => { this.closed = closed })
    if (name) this.provider.awareness.setLocalStateField('user', { name })
  }

  get names () {
    return [...this.provider.awareness.getStates().values()].map(state => state.user?.name).filter(Boolean).sort()
  }

  synced () {
    return until('synced', () => this.provider.synced)
  }

  shows (text) {
    return until(`text ${JSON.stringify(text)}, found ${JSON.stringify(this.text.toString())}`,
      () => this.text.toString() === text)
  }

  destroy () {
    this.provider.destroy()
    this.doc.destroy()
  }
}

/** A socket without a provider, to send what no provider would. */
export class RawSocket {
  constructor (base, room, query = '') {
    this.frames = []
    this.closed = null
    this.socket = new WebSocket(`${base.replace('http', 'ws')}/y/${room}${query}`)
    this.socket.binaryType = 'arraybuffer'
    this.socket.on('message', data => this.frames.push(new Uint8Array(data)))
    this.socket.on('close', (code, reason) => { this.closed = { code, reason: reason.toString() } })
    this.socket.on('error', () => {})
  }

  async send (data) {
    await until('open', () => this.socket.readyState !== WebSocket.CONNECTING)
    this.socket.send(data)
  }

  async closesWith (code) {
    await until(`closed with ${code}`, () => this.closed !== null)
    if (this.closed.code !== code) throw new Error(`closed with ${JSON.stringify(this.closed)}, not ${code}`)
    return this.closed.reason
  }
}
