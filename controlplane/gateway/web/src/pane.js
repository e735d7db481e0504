// One editor with a document and a connection of its own, as if it ran in a browser of its own.

import { defaultKeymap } from '@codemirror/commands'
import { EditorState } from '@codemirror/state'
import { EditorView, drawSelection, keymap, placeholder } from '@codemirror/view'
import { yCollab, yUndoManagerKeymap } from 'y-codemirror.next'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'

/** The root type that the gateway reads as text when none is named. */
export const ROOT = 'content'

/** A document's id as part of an address; slashes stay. */
export const pathOf = room => room.split('/').map(encodeURIComponent).join('/')

export class Pane {
  /**
   * @param {HTMLElement} element
   * @param {{name: string, color: string}} user
   * @param {(frame: ArrayBuffer) => void} onFrame called with every frame from the gateway, before it is read
   */
  constructor (element, user, onFrame) {
    this.element = element
    this.user = user
    this.onFrame = onFrame
    this.online = true
    const who = element.querySelector('.who')
    who.textContent = user.name
    who.style.setProperty('--colour', user.color)
    this.state = element.querySelector('.state')
    this.button = element.querySelector('button')
    this.button.addEventListener('click', () => this.setOnline(!this.online))
  }

  open (server, room, token) {
    this.close()
    this.doc = new Y.Doc()
    const { onFrame } = this
    class WatchedSocket extends WebSocket {
      constructor (url, protocols) {
        super(url, protocols)
        this.addEventListener('message', event => onFrame(event.data))
      }
    }
    this.provider = new WebsocketProvider(server, pathOf(room), this.doc, {
      // Both editors are on one page: without this they would talk past the gateway.
      disableBc: true,
      params: token ? { token } : {},
      WebSocketPolyfill: WatchedSocket
    })
    this.provider.awareness.setLocalStateField('user', { ...this.user, colorLight: `${this.user.color}33` })
    this.provider.on('status', ({ status }) => this.show(status))
    this.provider.on('closed', ({ reason }) => this.show('refused', reason))
    const text = this.doc.getText(ROOT)
    this.view = new EditorView({
      parent: this.element.querySelector('.editor'),
      state: EditorState.create({
        doc: text.toString(),
        extensions: [
          keymap.of([...yUndoManagerKeymap, ...defaultKeymap]),
          drawSelection(),
          EditorView.lineWrapping,
          EditorView.contentAttributes.of({ 'aria-label': `Editor of ${this.user.name}` }),
          placeholder('Type here. It appears in the other editor.'),
          yCollab(text, this.provider.awareness)
        ]
      })
    })
  }

  setOnline (online) {
    this.online = online
    this.button.textContent = online ? 'go offline' : 'go online'
    if (online) {
      this.provider.connect()
    } else {
      this.provider.disconnect()
      this.show('offline')
    }
  }

  show (state, detail = '') {
    const shown = this.online || state === 'refused' ? state : 'offline'
    this.state.textContent = shown
    this.state.title = detail
    this.state.className = `state ${shown}`
  }

  close () {
    this.view?.destroy()
    this.provider?.destroy()
    this.doc?.destroy()
    this.online = true
    this.button.textContent = 'go offline'
  }
}
