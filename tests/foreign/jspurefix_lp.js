// An LP on jspurefix: an acceptor for FIX 4.4 that does what its standard input says and answers each line with one of JSON.
//
//   NODE_PATH=…/node_modules node jspurefix_lp.js '{"port": …, "folder": …, "ledger": …, "symbols": 32, …}'
//
// The ledger is written where the engine asks for a message's header: its number is set, nothing is sent yet. What was sent is
// kept in the engine's own memory store, so that it resends while the process lives; a process that starts anew fills the gap.
'use strict'
const fs = require('fs')
const path = require('path')
const readline = require('readline')
require('reflect-metadata')
const engine = require('jspurefix')
const { FixMsgAsciiStoreResend, FixMsgMemoryStore, FixMsgStoreRecord, FileSessionStoreFactory } = require('jspurefix/dist/store')
const { AsciiSessionMsgFactory } = require('jspurefix/dist/transport/ascii/ascii-session-msg-factory')
const { SessionLauncher } = require('jspurefix/dist/runtime')

const options = JSON.parse(process.argv[2])
const SIZE = 1000000
const symbols = Array.from({ length: options.symbols }, (_, number) => `S${String(number).padStart(3, '0')}/USD`)
const fresh = !fs.existsSync(options.ledger)
const ledger = fs.openSync(options.ledger, 'a')
if (fresh) fs.writeSync(ledger, 'session,msg_seq_num,symbol,ts_ns,bid,ask,bid_size,ask_size\n')
fs.mkdirSync(options.folder, { recursive: true })
const log = fs.openSync(path.join(options.folder, 'engine.log'), 'a')

let session = null // of the connection that is logged on
let messages = null // what may be resent, over all connections
let stores = null
const state = { logons: 0, sent: 0, requests: new Map(), received: {}, flow: [0, 1] }

class Log extends engine.JsFixLoggerFactory {
  logger (type) {
    const write = (level) => (text) => fs.writeSync(log, `${new Date().toISOString()} ${level} ${type} ${text.stack || text}\n`)
    return { info: () => {}, debug: () => {}, warning: write('warning'), error: write('error') }
  }

  plain () {
    return { info: (text) => fs.writeSync(log, `${text}\n`), debug: () => {}, warning: () => {}, error: () => {} }
  }
}

class Headers extends AsciiSessionMsgFactory {
  constructor (description, mutator = null) {
    super(description, mutator)
    this.pending = []
  }

  header (msgType, seqNum, time, override) {
    const duplicate = override && override.PossDupFlag
    if ((msgType === 'W' || msgType === 'X') && !duplicate) {
      const { lines, body } = this.pending.shift()
      fs.writeSync(ledger, lines.map(([symbol, ts, bid, ask]) => `${options.name},${seqNum},${symbol},${ts}000000,${bid},${ask},${SIZE},${SIZE}\n`).join(''))
      state.sent += lines.length
      if (options.resends !== false) messages.put(new FixMsgStoreRecord(msgType, time, seqNum, body, null)).catch(note)
    }
    return super.header(msgType, seqNum, time, override)
  }
}

function note (error) {
  fs.writeSync(log, `${new Date().toISOString()} lp ${error.stack || error}\n`)
}

function quote (symbol) {
  const bid = 50000 + Math.floor(Math.random() * 150000)
  const at = new Date()
  return { at, line: [symbol, at.getTime(), (bid / 1e5).toFixed(5), ((bid + 10) / 1e5).toFixed(5)] }
}

function entries ({ at, line }, more) {
  return ['0', '1'].map(side => ({
    MDEntryType: side,
    MDEntryPx: Number(line[side === '0' ? 2 : 3]),
    MDEntrySize: SIZE,
    MDEntryDate: at,
    MDEntryTime: at,
    ...more
  }))
}

class Provider extends engine.AsciiSession {
  constructor (config) {
    super(config)
    this.config = config
    if (!messages) messages = new FixMsgMemoryStore('lp', config)
    this.store = messages
    this.resender = new FixMsgAsciiStoreResend(messages, config)
    this.ready = false
  }

  onLogon () { return true }

  onReady () {
    session = this
    this.ready = true
    state.logons++
  }

  onStopped (error) {
    if (error) note(error)
    this.ready = false
    if (session === this) {
      session = null
      state.requests.clear()
    }
  }

  onDecoded (msgType) { state.received[msgType] = (state.received[msgType] || 0) + 1 }

  onEncoded () {}

  onApplicationMsg (msgType, view) {
    const message = view.toObject()
    if (msgType === 'x') {
      this.send('y', {
        SecurityReqID: message.SecurityReqID,
        SecurityResponseID: message.SecurityReqID,
        SecurityRequestResult: 0,
        SecListGrp: { NoRelatedSym: symbols.map(symbol => ({ Instrument: { Symbol: symbol } })) }
      })
    } else if (msgType === 'V') {
      const symbol = message.InstrmtMDReqGrp.NoRelatedSym[0].Instrument.Symbol
      if (message.SubscriptionRequestType === '1') {
        state.requests.set(symbol, message.MDReqID)
        this.snapshot(symbol)
      } else {
        state.requests.delete(symbol)
      }
    }
  }

  out (msgType, body, lines) {
    this.config.factory.pending.push({ lines, body })
    this.send(msgType, body)
  }

  snapshot (symbol) {
    const found = quote(symbol)
    const body = { MDReqID: state.requests.get(symbol), Instrument: { Symbol: symbol }, MDFullGrp: { NoMDEntries: entries(found, {}) } }
    this.out('W', body, [found.line])
  }

  quotes (count) {
    const first = Math.floor(Math.random() * symbols.length)
    const found = Array.from({ length: count }, (_, index) => quote(symbols[(first + index) % symbols.length]))
    const all = found.flatMap(one => entries(one, { MDUpdateAction: '0', Instrument: { Symbol: one.line[0] } }))
    this.out('X', { MDIncGrp: { NoMDEntries: all } }, found.map(one => one.line))
  }

  async burst (ticks, perMessage) {
    for (let left = ticks / perMessage; left > 0; left--) {
      this.quotes(perMessage)
      if (left % 20 === 0) await new Promise((resolve) => setImmediate(resolve)) // so that the engine can read, too
      while (this.transport && this.transport.transmitter.encodeStream.readableLength > 1000000) {
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
    }
  }

  async act (command, given) {
    const transmitter = this.transport.transmitter
    switch (command) {
      case 'burst': return await this.burst(Number(given[0]), Number(given[1]))
      case 'snapshots': return [...state.requests.keys()].forEach(symbol => this.snapshot(symbol))
      case 'test_request': return this.send('1', { TestReqID: given[0] })
      case 'jump': { transmitter.msgSeqNum += Number(given[0]); return }
      case 'sequence_reset': {
        const next = transmitter.msgSeqNum + Number(given[0])
        this.send('4', this.config.factory.sequenceReset(next, false))
        transmitter.msgSeqNum = next
        return
      }
      case 'logout': return this.done()
      case 'logon': return // it answers every logon
      case 'drop': return this.requestStop('dropped')
      default: throw new Error(command)
    }
  }
}

class Launcher extends SessionLauncher {
  constructor () {
    super(null, {
      application: {
        type: 'acceptor',
        name: options.name,
        tcp: { host: '127.0.0.1', port: options.port },
        protocol: 'ascii',
        dictionary: path.join(path.dirname(require.resolve('jspurefix/package.json')), 'data/FIX44.xml')
      },
      EncryptMethod: 0,
      ResetSeqNumFlag: options.lp_resets === true,
      HeartBtInt: options.heartbeat_s,
      SenderCompId: options.name,
      TargetCompID: 'TICKVAULT',
      BeginString: 'FIX.4.4',
      store: { type: 'file', directory: path.join(options.folder, 'store') }
    }, new Log())
  }

  makeSessionMsgFactory (description) { return new Headers(description) }

  makeFactory (config) {
    const files = new FileSessionStoreFactory(path.join(options.folder, 'store'))
    config.sessionStoreFactory = { create: (id) => (stores = stores || files.create(id)) }
    return { makeSession: (scoped) => new Provider(scoped) }
  }
}

function status () {
  const transmitter = session && session.transport ? session.transport.transmitter : null
  return {
    logged_on: Boolean(session && session.ready),
    logons: state.logons,
    subscribed: state.requests.size,
    sent: state.sent,
    next_out: transmitter ? transmitter.msgSeqNum : null,
    next_in: session ? session.lastPeerSeqNum() + 1 : null,
    received: state.received
  }
}

process.on('uncaughtException', note)
process.on('unhandledRejection', note)
new Launcher().run().catch(note)
setInterval(() => {
  const [perSecond, perMessage] = state.flow
  for (let due = perSecond / 100; due > 0 && session && session.ready; due--) session.quotes(perMessage)
}, 10)

async function main () {
  console.log(JSON.stringify(status()))
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [command, ...given] = line.trim().split(/\s+/)
    if (command === 'flow') state.flow = given.map(Number)
    else if (command !== 'status' && session) await session.act(command, given)
    console.log(JSON.stringify(status()))
  }
  process.exit(0)
}
main().catch(note)
