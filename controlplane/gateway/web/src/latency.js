// Times edits: from the keystroke until the other editor has it, and until it comes back durable.

import * as decoding from 'lib0/decoding'
import * as Y from 'yjs'

const SAMPLES_MAX = 60
const WAITING_MAX = 10_000

const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))]

/** The last samples of one figure, shown as the median with the spread behind it. */
export class Figure {
  constructor (id) {
    this.value = document.getElementById(id)
    this.more = document.getElementById(`${id}-more`)
    this.line = document.querySelector(`#${id}-line polyline`)
    this.samples = []
  }

  add (ms) {
    this.samples.push(ms)
    if (this.samples.length > SAMPLES_MAX) this.samples.shift()
  }

  render () {
    const { samples } = this
    if (samples.length === 0) return
    const sorted = samples.toSorted((a, b) => a - b)
    const show = ms => ms < 10 ? ms.toFixed(1) : ms.toFixed(0)
    this.value.textContent = show(quantile(sorted, 0.5))
    this.more.textContent = `median of ${samples.length}, 95 % under ${show(quantile(sorted, 0.95))}`
    const top = Math.max(sorted[sorted.length - 1], 1)
    const point = (ms, at) => `${(at * 120 / (SAMPLES_MAX - 1)).toFixed(1)},${(23 - ms / top * 22).toFixed(1)}`
    this.line.setAttribute('points', samples.map(point).join(' '))
  }
}

/** What a keystroke made, by the client and clock of each struct in it; deletions alone have none. */
export const structsOf = update => Y.decodeUpdate(update).structs.map(({ id, length }) => ({
  client: id.client, end: id.clock + length
}))

/** Which of one client's edits wait for something, in the order of their clocks. */
export class Waiting {
  constructor () {
    this.edits = []
  }

  add (update, at) {
    for (const { client, end } of structsOf(update)) this.edits.push({ client, end, at })
    if (this.edits.length > WAITING_MAX) this.edits.shift()
  }

  /** Takes those that `update` covers, and gives when each was made. */
  settle (update) {
    const ends = new Map()
    for (const { client, end } of structsOf(update)) ends.set(client, Math.max(end, ends.get(client) ?? 0))
    const settled = this.edits.filter(edit => edit.end <= (ends.get(edit.client) ?? 0))
    if (settled.length > 0) this.edits = this.edits.filter(edit => edit.end > (ends.get(edit.client) ?? 0))
    return settled.map(edit => edit.at)
  }

  get count () {
    return this.edits.length
  }
}

/** The update in a frame of the y-websocket protocol, if it holds one. */
export const updateIn = frame => {
  const decoder = decoding.createDecoder(new Uint8Array(frame))
  const isUpdate = decoding.readVarUint(decoder) === 0 && decoding.readVarUint(decoder) === 2
  return isUpdate ? decoding.readVarUint8Array(decoder) : null
}
