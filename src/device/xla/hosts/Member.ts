/** One host's connection to the coordinator: it comes in, asks of the store what its plugin asks, and hears who is gone. */
import { connect, type Socket } from "node:net"
import { addressText, type Hosts, HostsApart, isLoopback } from "../../hosts.ts"
import { silentTurns } from "./Coordinator.ts"
import {
  type Answer,
  BadFrame,
  Frames,
  frame,
  limits,
  longestGreeting,
  nonceOf,
  proofOf,
  type Request,
  type Said,
  status,
  type Told
} from "./wire.ts"

export interface JoinOptions {
  /** What this host computes with; all must be alike. */
  readonly identity: string
  /** How long to wait for the coordinator and for all others; default 5 minutes. */
  readonly deadlineMs?: number
  /** After which a side that says nothing is gone; default a minute. */
  readonly silenceMs?: number
}

export const defaults = { deadlineMs: 300_000, silenceMs: 60_000 } as const

/** Between two attempts to reach the coordinator. */
const retryMs = 200

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

/** Why one attempt did not bring this host in. */
class Refused extends Error {
  readonly again: boolean
  /** Whether there was no word at all before the time was over: what an attempt before it heard says more. */
  readonly mute: boolean
  constructor(message: string, again: boolean, mute: boolean) {
    super(message)
    this.again = again
    this.mute = mute
  }
}

export class Member {
  readonly #hosts: Hosts
  readonly #socket: Socket
  readonly #silenceMs: number
  readonly #asked = new Map<number, (answer: Answer) => void>()
  readonly #frames = new Frames()
  readonly #beat: NodeJS.Timeout
  #next = 0
  /** Beats since the coordinator was heard. */
  #quiet = 0
  #lost: string | undefined
  /** Whether it has said hello, which is a host's first word. */
  #introduced = false
  #leaving = false
  /** Is told once why the hosts are apart. */
  onLost: (why: string) => void = () => undefined

  private constructor(hosts: Hosts, socket: Socket, silenceMs: number) {
    this.#hosts = hosts
    this.#socket = socket
    this.#silenceMs = silenceMs
    this.#beat = setInterval(() => this.#listen(), Math.max(1, silenceMs / silentTurns))
  }

  /** Comes in, and waits until all have. Rejects with HostsApart: the deadline has passed, or this host does not belong there. */
  static async join(hosts: Hosts, options: JoinOptions): Promise<Member> {
    const { deadlineMs = defaults.deadlineMs } = options
    const until = Date.now() + deadlineMs
    const seconds = `${deadlineMs / 1000} s`
    const where = `host ${hosts.id} of ${hosts.count}`
    const at = `the coordinator at ${addressText(hosts.coordinator)}`
    let last: string | undefined
    for (;;) {
      const left = until - Date.now()
      if (left <= 0) throw new HostsApart(`${where} has not come in at ${at} within ${seconds}: ${last ?? "no answer"}`)
      try {
        return await Member.#attempt(hosts, options, left)
      } catch (error) {
        if (!(error instanceof Refused)) throw error
        if (last === undefined || !error.mute) last = error.message
        if (!error.again) throw new HostsApart(`${where} was turned away by ${at}: ${last}`)
      }
      await sleep(Math.min(retryMs, Math.max(1, until - Date.now())))
    }
  }

  static #attempt(
    hosts: Hosts,
    { identity, silenceMs = defaults.silenceMs }: JoinOptions,
    leftMs: number
  ): Promise<Member> {
    const { host, port } = hosts.coordinator
    return new Promise((resolve, reject) => {
      // host 0 need not know the way by which others reach it
      const socket = connect({ host: hosts.id === 0 && !isLoopback(host) ? "localhost" : host, port })
      const member = new Member(hosts, socket, silenceMs)
      let greeted = false
      let waitsFor = "the coordinator has not greeted"
      let done = false
      const give = (finish: () => void) => {
        if (done) return
        done = true
        clearTimeout(timer)
        finish()
      }
      const fail = (message: string, again: boolean, mute = false) =>
        give(() => {
          member.#end()
          reject(new Refused(message, again, mute))
        })
      const timer = setTimeout(() => fail(waitsFor, true, !greeted), leftMs)
      socket.setNoDelay(true)
      socket.on("error", (error: NodeJS.ErrnoException) => fail(error.message || String(error.code), true))
      socket.on("close", () => {
        fail("the connection broke off", true)
        member.#apart("the connection to the coordinator broke off")
      })
      socket.on("data", (piece) => {
        try {
          member.#frames.push(piece)
          if (!greeted) {
            const line = member.#frames.line(longestGreeting)
            if (line === undefined) return
            const nonce = nonceOf(line)
            if (nonce === undefined) throw new BadFrame(line)
            greeted = true
            waitsFor = "it has not answered"
            member.#frames.limit = limits.host
            const hello = { id: hosts.id, count: hosts.count, identity, proof: proofOf(hosts.secret, nonce) }
            socket.write(frame({ hello }))
            member.#introduced = true
          }
          for (let one = member.#frames.next(); one !== undefined; one = member.#frames.next()) {
            member.#quiet = 0
            const told = one.header as Told
            if ("refused" in told) fail(told.refused, told.again)
            else if ("missing" in told) {
              if (told.missing.length === 0) give(() => resolve(member))
              const away = told.turnedAway === null ? "" : `; turned away was ${told.turnedAway}`
              waitsFor = `host ${told.missing.join(", ")} has not come${away}`
            } else member.#hear(told, one.value)
          }
        } catch (error) {
          if (!(error instanceof BadFrame)) throw error
          fail("what listens there is no coordinator of this version", false)
          member.#apart("the coordinator said what cannot be read")
        }
      })
    })
  }

  #hear(told: Told, value: Uint8Array): void {
    if ("lost" in told) this.#apart(told.lost)
    else if ("answer" in told) {
      const answer = this.#asked.get(told.answer)
      this.#asked.delete(told.answer)
      answer?.(told.code === undefined ? { value } : { code: told.code, message: told.message ?? "" })
    }
  }

  #say(said: Said, value?: Uint8Array): void {
    if (!this.#socket.destroyed) this.#socket.write(frame(said, value))
  }

  /** Beats, and notes where the other side does not. */
  #listen(): void {
    if (this.#introduced) this.#say({ beat: true })
    if (this.#quiet++ < silentTurns) return
    this.#apart(`nothing was heard of the coordinator for ${this.#silenceMs / 1000} s`)
    this.#end()
  }

  #apart(why: string): void {
    if (this.#lost !== undefined || this.#leaving) return
    this.#lost = why
    for (const answer of this.#asked.values()) answer({ code: status.unavailable, message: why })
    this.#asked.clear()
    this.onLost(why)
  }

  #end(): void {
    clearInterval(this.#beat)
    this.#socket.destroy()
  }

  /** Never rejects. */
  ask({ operation, key, timeoutMs, value }: Request): Promise<Answer> {
    if (this.#lost !== undefined || this.#leaving) {
      return Promise.resolve({ code: status.unavailable, message: this.#lost ?? `host ${this.#hosts.id} has left` })
    }
    return new Promise((resolve) => {
      const ask = this.#next++
      this.#asked.set(ask, resolve)
      this.#say({ ask, operation, key, ...(timeoutMs === undefined ? {} : { timeoutMs }) }, value)
    })
  }

  /**
   * Goes, with a word to the others.
   * @param failure why it cannot go on: the others are told at once
   */
  async leave(failure: string | null): Promise<void> {
    this.#leaving = true
    clearInterval(this.#beat)
    if (!this.#socket.destroyed) {
      this.#say({ leave: failure })
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 2000)
        this.#socket.once("close", () => {
          clearTimeout(timer)
          resolve()
        })
        this.#socket.end()
      })
    }
    this.#end()
    for (const answer of this.#asked.values()) answer({ code: status.unavailable, message: "this host has left" })
    this.#asked.clear()
  }
}
