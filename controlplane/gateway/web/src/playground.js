// The playground: two editors on one document, and how long an edit takes.

import { Figure, Waiting, updateIn } from './latency.js'
import { Pane, ROOT, pathOf } from './pane.js'

const NAMES = ['Ada', 'Grace', 'Alan', 'Edsger', 'Barbara', 'Donald', 'Radia', 'Leslie', 'Frances', 'Ken', 'Margaret', 'Tony']
const COLOURS = ['#0f766e', '#b45309', '#6d28d9', '#be185d', '#1d4ed8', '#4d7c0f', '#a21caf', '#c2410c']
const DEFAULT_DOCUMENT = 'playground'

const byId = id => document.getElementById(id)
const pick = (list, at) => list[at % list.length]

const seed = crypto.getRandomValues(new Uint8Array(2))
const user = at => ({ name: pick(NAMES, seed[0] + at * 5), color: pick(COLOURS, seed[1] + at * 3) })

const seen = new Figure('seen')
const durable = new Figure('durable')
let confirmed = 0

const panes = ['left', 'right'].map((id, at) => {
  const pane = new Pane(byId(id), user(at), frame => {
    const update = updateIn(frame)
    if (update === null) return
    const now = performance.now()
    for (const made of pane.unconfirmed.settle(update)) {
      durable.add(now - made)
      confirmed++
    }
  })
  return pane
})

const roomOfHash = () => {
  try {
    return decodeURIComponent(location.hash.slice(1)) || DEFAULT_DOCUMENT
  } catch {
    return DEFAULT_DOCUMENT
  }
}

const token = new URLSearchParams(location.search).get('token')

function open () {
  const room = roomOfHash()
  const server = `${location.protocol.replace('http', 'ws')}//${location.host}/y`
  document.title = `${room} · AetherFlow playground`
  byId('document').value = room
  byId('another').href = location.href
  byId('snippet').textContent = [
    'import * as Y from \'yjs\'',
    'import { WebsocketProvider } from \'y-websocket\'',
    '',
    'const doc = new Y.Doc()',
    `const provider = new WebsocketProvider('${server}', '${pathOf(room)}', doc)`,
    `const text = doc.getText('${ROOT}')`
  ].join('\n')
  byId('curl').textContent = `curl '${location.origin}/v1/documents/${pathOf(room)}?format=text'`
  for (const pane of panes) {
    pane.open(server, room, token)
    pane.unconfirmed = new Waiting()
    pane.unseen = new Waiting()
  }
  panes.forEach(watchEdits)
  panes[0].provider.awareness.on('change', showPeople)
  showPeople()
}

/** Times what is typed in one pane until the other one has it. */
function watchEdits (pane) {
  const other = panes.find(candidate => candidate !== pane)
  // What was under way then comes back with the next synchronisation, and says nothing about latency.
  pane.provider.on('connection-close', () => {
    pane.unconfirmed = new Waiting()
    pane.unseen = new Waiting()
  })
  pane.doc.on('update', (update, origin) => {
    const now = performance.now()
    if (origin === pane.provider) {
      const both = pane.online && other.online
      for (const made of other.unseen.settle(update)) if (both) seen.add(now - made)
    } else {
      // What is typed offline is settled when it is back, but says nothing about latency.
      if (pane.online && other.online) pane.unseen.add(update, now)
      if (pane.online) pane.unconfirmed.add(update, now)
    }
  })
}

function showPeople () {
  const states = [...panes[0].provider.awareness.getStates().values()]
  const users = states.map(state => state.user).filter(found => found?.name)
  const circles = users.slice(0, 8).map(({ name, color }) => {
    const circle = document.createElement('span')
    circle.className = 'person'
    circle.title = name
    circle.textContent = String(name).slice(0, 2)
    circle.style.background = /^#[0-9a-f]{6}$/i.test(color) ? color : '#64748b'
    return circle
  })
  const count = document.createElement('span')
  count.className = 'count'
  count.textContent = `${users.length} here`
  byId('people').replaceChildren(...circles, count)
}

byId('open').addEventListener('submit', event => {
  event.preventDefault()
  location.hash = encodeURIComponent(byId('document').value.trim() || DEFAULT_DOCUMENT)
})
addEventListener('hashchange', open)

setInterval(() => {
  seen.render()
  durable.render()
  byId('waiting').textContent = panes.reduce((sum, pane) => sum + pane.unconfirmed.count, 0)
  byId('confirmed').textContent = `${confirmed} confirmed`
}, 200)

open()
