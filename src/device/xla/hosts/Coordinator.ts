/**
 * The hosts' meeting place and their key-value store, on host 0: what XLA's distributed runtime calls the coordination service.
 * It counts who has come, turns away who does not belong, keeps what plugins put (a key once), lets `get` wait for a key, and
 * tells all when a host is gone.
 */
import { randomBytes } from "node:crypto"
import { createServer, type Server, type Socket } from "node:net"
import { addressText, type Hosts, HostsApart, isLoopback } from "../../hosts.ts"
import { BadFrame, Frames, frame, greeting, limits, proves, type Said, status, type Told } from "./wire.ts"

interface Place {
  readonly socket: Socket
  readonly address: string
  state: "here" | "ended" | "lost"
  /** Turns of the watch since something was heard of it. */
  quiet: number
  /** Turns of the watch since somebody else came with its number; undefined where nobody did. */
  claimed: number | undefined
  /** Whether it was heard of since, and so is there: the other is no restart of it. */
  proved: boolean
}

interface Waiting {
  readonly id: number
  readonly answer: (told: { readonly code?: number; readonly message?: string }, value?: Uint8Array) => void
  readonly timer: NodeJS.Timeout
}

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

/** Turns of the watch in the time after which a silent side is gone. A process that stood still counts none meanwhile. */
export const silentTurns = 4

/** The longest that a timer may run: `setTimeout` takes more for nothing. */
const longestTimer = 2 ** 31 - 1

export class Coordinator {
  readonly #hosts: Hosts
  readonly #identity: string
  readonly #silenceMs: number
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #places = new Map<number, Place>()
  readonly #values = new Map<string, Uint8Array>()
  readonly #waiting = new Map<string, Set<Waiting>>()
  readonly #watch: NodeJS.Timeout
  #turnedAway: string | null = null
  #lost: string | undefined
  /** Whether all have come. */
  #complete = false

  private constructor(hosts: Hosts, identity: string, silenceMs: number) {
    this.#hosts = hosts
    this.#identity = identity
    this.#silenceMs = silenceMs
    this.#server = createServer((socket) => this.#meet(socket))
    this.#watch = setInterval(() => this.#listen(), Math.max(1, silenceMs / silentTurns))
  }

  /** The port that it listens on: the coordinator's, or what the system gave where that is 0. */
  get port(): number {
    const address = this.#server.address()
    return typeof address === "object" && address !== null ? address.port : this.#hosts.coordinator.port
  }

  /**
   * Waits at the coordinator's address. Rejects with HostsApart where the port cannot be had.
   * @param identity what this host computes with; others must compute with the same
   * @param silenceMs after which a host of which nothing is heard is gone
   */
  static async listen(hosts: Hosts, identity: string, silenceMs: number): Promise<Coordinator> {
    const { host, port } = hosts.coordinator
    const made = new Coordinator(hosts, identity, silenceMs)
    try {
      await new Promise<void>((resolve, reject) => {
        made.#server.once("error", reject)
        // a name for this machine alone is listened to there alone
        made.#server.listen(isLoopback(host) ? { host, port } : { port }, resolve)
      })
    } catch (error) {
      await made.close(0)
      const { code } = error as NodeJS.ErrnoException
      const why = code === "EADDRINUSE" ? "something else listens there; take another port" : String(error)
      throw new HostsApart(`host 0 cannot listen at ${addressText(hosts.coordinator)}: ${why}`)
    }
    return made
  }

  /**
   * Ends. Others are given time to say goodbye, and are cut off after it.
   * @param graceMs how long to wait for them
   */
  async close(graceMs: number): Promise<void> {
    this.#server.close()
    const hosts = new Set([...this.#places.values()].map(({ socket }) => socket))
    for (const stranger of this.#sockets) if (!hosts.has(stranger)) stranger.destroySoon()
    if (!this.#complete) this.#tell({ refused: "host 0 has given up: not all hosts have come", again: false })
    const until = Date.now() + graceMs
    while ([...hosts].some((socket) => this.#sockets.has(socket)) && Date.now() < until) await sleep(20)
    clearInterval(this.#watch)
    for (const socket of this.#sockets) socket.destroy()
    for (const set of this.#waiting.values()) for (const { timer } of set) clearTimeout(timer)
    this.#waiting.clear()
  }

  #meet(socket: Socket): void {
    const address = `${socket.remoteAddress ?? "?"}:${socket.remotePort ?? "?"}`
    const nonce = randomBytes(16).toString("hex")
    const frames = new Frames()
    let id: number | undefined
    this.#sockets.add(socket)
    socket.setNoDelay(true)
    socket.write(greeting(nonce))
    // who says nothing is no host
    const patience = setTimeout(() => socket.destroy(), this.#silenceMs)
    socket.on("data", (piece) => {
      try {
        frames.push(piece)
        for (let one = frames.next(); one !== undefined; one = frames.next()) {
          if (id === undefined) {
            id = this.#admit(one.header as Said, nonce, socket, address)
            if (id === undefined) return
            clearTimeout(patience)
            frames.limit = limits.host
          } else this.#serve(id, socket, one.header as Said, one.value)
        }
      } catch (error) {
        if (!(error instanceof BadFrame)) throw error
        if (id === undefined) this.#turnedAway = `${address}, which does not speak as hosts do`
        socket.destroy()
      }
    })
    socket.on("error", () => socket.destroy())
    socket.on("close", () => {
      clearTimeout(patience)
      this.#sockets.delete(socket)
      if (id !== undefined) this.#gone(id, socket, "its connection broke off")
    })
  }

  /** The number of a host that says hello and belongs here; whoever does not is told why. */
  #admit(said: Said, nonce: string, socket: Socket, address: string): number | undefined {
    const refuse = (refused: string, again = false): undefined => {
      this.#turnedAway = `${address}: ${refused}`
      socket.end(frame({ refused, again }))
    }
    if (!("hello" in said) || typeof said.hello !== "object" || said.hello === null) {
      return refuse("it did not begin with hello")
    }
    const { count, id, identity, proof } = said.hello
    const { count: own, secret } = this.#hosts
    if (!proves(proof, secret, nonce)) return refuse("it does not know the secret (OVERTONE_HOSTS_SECRET)")
    if (typeof count !== "number" || typeof id !== "number" || typeof identity !== "string") {
      return refuse("it does not say hello as hosts of this version do")
    }
    if (count !== own) return refuse(`it counts ${count} hosts, and host 0 counts ${own} (OVERTONE_HOSTS)`)
    if (!Number.isInteger(id) || id < 0 || id >= own) return refuse(`it is host ${id} of ${own} (OVERTONE_HOST_ID)`)
    if (identity !== this.#identity) return refuse(`it computes with ${identity}, and host 0 with ${this.#identity}`)
    const there = this.#places.get(id)
    if (there?.state === "here") {
      // it may be the one that is there, begun again before its end was noticed
      there.claimed ??= 0
      return refuse(`there is a host ${id} already, at ${there.address} (OVERTONE_HOST_ID)`, !there.proved)
    }
    if (this.#complete) return refuse("these hosts have come together before, and are about to end", true)
    this.#places.set(id, { socket, address, state: "here", quiet: 0, claimed: undefined, proved: false })
    const missing = Array.from({ length: own }, (_, i) => i).filter((i) => !this.#places.has(i))
    this.#complete = missing.length === 0
    this.#tell({ missing, turnedAway: this.#turnedAway })
    return id
  }

  #tell(told: Told): void {
    for (const { socket, state } of this.#places.values()) if (state === "here") socket.write(frame(told))
  }

  /** The place of a host, for as long as it is this connection that has it. */
  #placeOf(id: number, socket: Socket): Place | undefined {
    const place = this.#places.get(id)
    return place?.socket === socket ? place : undefined
  }

  #serve(id: number, socket: Socket, said: Said, value: Uint8Array): void {
    const place = this.#placeOf(id, socket)
    if (place === undefined) return
    place.quiet = 0
    // what was on its way when the other came proves nothing
    if ((place.claimed ?? 0) > 1) place.proved = true
    if ("beat" in said) place.socket.write(frame({ beat: true }))
    else if ("leave" in said) {
      if (said.leave !== null) this.#gone(id, socket, said.leave)
      else if (place.state === "here") place.state = "ended"
      place.socket.end()
    } else if ("ask" in said) {
      const answer: Waiting["answer"] = (told, found) => {
        if (!place.socket.destroyed) place.socket.write(frame({ answer: said.ask, ...told }, found))
      }
      this.#operate(id, said, value, answer)
    }
  }

  #operate(id: number, said: Extract<Said, { ask: number }>, value: Uint8Array, answer: Waiting["answer"]): void {
    const { key, operation } = said
    const known = this.#values.get(key)
    if (operation === "put" && known !== undefined) {
      answer({ code: status.alreadyExists, message: `the key ${key} is there already` })
    } else if (operation === "put") {
      this.#values.set(key, value)
      answer({})
      for (const waiting of this.#waiting.get(key) ?? []) {
        clearTimeout(waiting.timer)
        waiting.answer({}, value)
      }
      this.#waiting.delete(key)
    } else if (known !== undefined) answer({}, known)
    else if (operation === "tryGet") answer({ code: status.notFound, message: `there is no key ${key}` })
    else if (this.#lost !== undefined) answer({ code: status.unavailable, message: this.#lost })
    else {
      const timeoutMs = Math.min(Math.max(0, said.timeoutMs ?? 0), longestTimer)
      const all = this.#waiting.get(key) ?? new Set()
      const timer = setTimeout(() => {
        all.delete(waiting)
        answer({ code: status.deadlineExceeded, message: `no host has put the key ${key} within ${timeoutMs} ms` })
      }, timeoutMs)
      const waiting = { id, answer, timer }
      this.#waiting.set(key, all.add(waiting))
    }
  }

  /** Before all have come a host may come again; after that the others cannot go on without it. */
  #gone(id: number, socket: Socket, why: string): void {
    const place = this.#placeOf(id, socket)
    if (place?.state !== "here") return
    if (!this.#complete) {
      this.#places.delete(id)
      this.#turnedAway = `host ${id} (${place.address}), which is gone again: ${why}`
      return
    }
    place.state = "lost"
    this.#lost ??= `host ${id} (${place.address}) is gone: ${why}`
    for (const set of this.#waiting.values()) {
      for (const { answer, timer } of set) {
        clearTimeout(timer)
        answer({ code: status.unavailable, message: this.#lost })
      }
    }
    this.#waiting.clear()
    this.#tell({ lost: this.#lost })
  }

  /** Who has said nothing for too long is gone. */
  #listen(): void {
    for (const [id, place] of this.#places) {
      if (place.claimed !== undefined) place.claimed++
      if (place.state !== "here" || place.quiet++ < silentTurns) continue
      this.#gone(id, place.socket, `nothing was heard of it for ${this.#silenceMs / 1000} s`)
      place.socket.destroy()
    }
  }
}
