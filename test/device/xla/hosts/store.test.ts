/** The coordinator and its members on loopback, in one process: the store, who is let in, who is missed. */
import { connect, createServer, type Server, type Socket } from "node:net"
import { MessageChannel } from "node:worker_threads"
import * as fc from "fast-check"
import { afterEach, describe, expect, it } from "vitest"
import { type Hosts, HostsApart } from "../../../../src/device/hosts.ts"
import { Coordinator } from "../../../../src/device/xla/hosts/Coordinator.ts"
import { answerOf } from "../../../../src/device/xla/hosts/callbackThread.ts"
import { type JoinOptions, Member } from "../../../../src/device/xla/hosts/Member.ts"
import {
  BadFrame,
  Frames,
  frame,
  greeting,
  limits,
  nonceOf,
  proofOf,
  proves,
  status
} from "../../../../src/device/xla/hosts/wire.ts"
import { freePort } from "./port.ts"

const bytes = (text: string) => new TextEncoder().encode(text)

describe("frames", () => {
  it("are the same in whatever pieces they come", () => {
    const one = fc.record({ key: fc.string({ maxLength: 20 }), value: fc.uint8Array({ maxLength: 50 }) })
    fc.assert(
      fc.property(fc.array(one, { maxLength: 6 }), fc.array(fc.integer({ min: 1, max: 40 })), (sent, cuts) => {
        const all = Buffer.concat([
          Buffer.from("a line\n"),
          ...sent.map(({ key, value }) => frame({ ask: 1, operation: "put", key }, value))
        ])
        const frames = new Frames()
        frames.limit = limits.host
        const seen: Array<unknown> = []
        let line: string | undefined
        for (let at = 0, i = 0; at < all.length; i++) {
          const size = cuts[i] ?? all.length
          frames.push(all.subarray(at, at + size))
          at += size
          line ??= frames.line(128)
          if (line === undefined) continue
          for (let next = frames.next(); next !== undefined; next = frames.next()) seen.push(next)
        }
        expect(line).toBe("a line")
        expect(seen).toEqual(
          sent.map(({ key, value }) => ({ header: { ask: 1, operation: "put", key }, value: Uint8Array.from(value) }))
        )
      })
    )
  })

  it("of a stranger are short, and what is no frame is refused", () => {
    const large = frame({ ask: 1, operation: "put", key: "k" }, new Uint8Array(10))
    const strange = new Frames()
    strange.push(Buffer.from(large))
    expect(() => strange.next()).toThrow(BadFrame)
    const http = new Frames()
    http.push(Buffer.from("GET / HTTP/1.1\r\n\r\n"))
    expect(() => http.next()).toThrow(BadFrame)
    const text = new Frames()
    text.push(Buffer.from([4, 0, 0, 0, 0, 0, 0, 0, ...bytes("nope")]))
    expect(() => text.next()).toThrow(BadFrame)
    const long = new Frames()
    long.push(Buffer.alloc(200, 65))
    expect(() => long.line(128)).toThrow(BadFrame)
  })

  it("a secret is proved without being said", () => {
    const nonce = "0123456789abcdef".repeat(2)
    expect(nonceOf(greeting(nonce).trimEnd())).toBe(nonce)
    expect([nonceOf("SSH-2.0-OpenSSH_9.6"), nonceOf(`overtone-hosts 2 ${nonce}`)]).toEqual([undefined, undefined])
    expect([proves(proofOf("word", nonce), "word", nonce), proofOf("word", nonce).includes("word")]).toEqual([
      true,
      false
    ])
    expect([proves(proofOf("other", nonce), "word", nonce), proves(undefined, "", nonce)]).toEqual([false, false])
  })
})

it("an answer that comes too late for its request is not taken for the next one's", () => {
  const { port1, port2 } = new MessageChannel()
  port1.postMessage({ number: 0, answer: { value: bytes("late") } })
  port1.postMessage({ number: 1, answer: { value: bytes("own") } })
  expect(answerOf(port2, 1)).toEqual({ value: bytes("own") })
  expect(answerOf(port2, 2)).toBeUndefined()
  port1.close()
})

describe("hosts that come together", () => {
  const ends: Array<() => unknown> = []
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end()
  })

  const listening = async (server: Server): Promise<number> => {
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    const address = server.address()
    return typeof address === "object" && address !== null ? address.port : 0
  }
  const hostsAt = (port: number, id: number, more: Partial<Hosts> = {}): Hosts => ({
    coordinator: { host: "127.0.0.1", port },
    count: 2,
    id,
    secret: "word",
    ...more
  })
  const identity = "xla:test 1"
  const options: JoinOptions = { identity, deadlineMs: 600_000, silenceMs: 600_000 }

  const coordinate = async (count = 2, silenceMs = 600_000) => {
    const coordinator = await Coordinator.listen(hostsAt(0, 0, { count }), identity, silenceMs)
    ends.push(() => coordinator.close(0))
    return { port: coordinator.port, coordinator }
  }
  const join = async (hosts: Hosts, more: Partial<JoinOptions> = {}) => {
    const member = await Member.join(hosts, { ...options, ...more })
    ends.push(() => member.leave(null))
    return member
  }
  const both = async () => {
    const { coordinator, port } = await coordinate()
    const [zero, one] = await Promise.all([join(hostsAt(port, 0)), join(hostsAt(port, 1))])
    return { port, coordinator, zero: zero!, one: one! }
  }
  const apart = async (joining: Promise<unknown>) => {
    const error = await joining.then(
      () => undefined,
      (error: unknown) => error
    )
    expect(error).toBeInstanceOf(HostsApart)
    return (error as HostsApart).message
  }
  const raw = (port: number): Socket => {
    const socket = connect(port, "127.0.0.1")
    socket.on("error", () => undefined)
    ends.push(() => socket.destroy())
    return socket
  }
  /** A connection that says hello as a host, and nothing after it. */
  const mute = (port: number, id: number): Socket => {
    const socket = raw(port)
    socket.once("data", (line) => {
      const nonce = nonceOf(line.toString("latin1").trimEnd())!
      socket.write(frame({ hello: { id, count: 2, identity, proof: proofOf("word", nonce) } }))
      // what it is told must be read for its end to be seen
      socket.resume()
    })
    return socket
  }
  /** Until a host has come in: a second one with its number hears of it. */
  const said = async (port: number, id: number): Promise<void> => {
    for (let heard = ""; !heard.includes("already"); ) {
      heard = await new Promise<string>((resolve) => {
        let text = ""
        mute(port, id)
          .on("data", (piece) => (text += piece.toString("latin1")))
          .on("close", () => resolve(text))
      })
    }
  }

  it("share keys: a get waits for its key, a key is put once, what is not there is said", async () => {
    const { one, zero } = await both()
    const waiting = [
      one.ask({ operation: "get", key: "a", timeoutMs: 600_000 }),
      zero.ask({ operation: "get", key: "a", timeoutMs: 600_000 })
    ]
    const value = Uint8Array.of(0, 255, 10, 0)
    expect(await zero.ask({ operation: "tryGet", key: "a" })).toEqual({
      code: status.notFound,
      message: "there is no key a"
    })
    expect(await zero.ask({ operation: "put", key: "a", value })).toEqual({ value: new Uint8Array(0) })
    expect(await Promise.all(waiting)).toEqual([{ value }, { value }])
    expect(await one.ask({ operation: "put", key: "a", value })).toMatchObject({ code: status.alreadyExists })
    expect(await one.ask({ operation: "tryGet", key: "a" })).toEqual({ value })
    expect(await one.ask({ operation: "get", key: "b", timeoutMs: 30 })).toEqual({
      code: status.deadlineExceeded,
      message: "no host has put the key b within 30 ms"
    })
    const large = new Uint8Array(3e6).map((_, i) => i * 7)
    await one.ask({ operation: "put", key: "", value: large })
    const got = await zero.ask({ operation: "get", key: "" })
    expect("value" in got && Buffer.compare(got.value, large)).toBe(0)
  })

  it("come in any order; the coordinator may be the last", async () => {
    const port = await freePort()
    const late = join(hostsAt(port, 1))
    await new Promise((resolve) => setTimeout(resolve, 50))
    const coordinator = await Coordinator.listen(hostsAt(port, 0), identity, 600_000)
    ends.push(() => coordinator.close(0))
    await Promise.all([late, join(hostsAt(port, 0))])
  })

  it("who does not belong is turned away with the reason, and the others still come together", async () => {
    const { port } = await coordinate()
    const zero = join(hostsAt(port, 0))
    expect(await apart(join(hostsAt(port, 1, { secret: "sesame" })))).toMatch(/turned away.*does not know the secret/)
    expect(await apart(join(hostsAt(port, 1, { count: 3 })))).toMatch(
      /counts 3 hosts, and host 0 counts 2 \(OVERTONE_HOSTS\)/
    )
    expect(await apart(join(hostsAt(port, 7)))).toMatch(/it is host 7 of 2 \(OVERTONE_HOST_ID\)/)
    expect(await apart(join(hostsAt(port, 1), { identity: "xla:test 2" }))).toMatch(
      /computes with xla:test 2, and host 0 with xla:test 1/
    )
    const one = await join(hostsAt(port, 1))
    await zero
    expect(await one.ask({ operation: "put", key: "a", value: bytes("b") })).toEqual({ value: new Uint8Array(0) })
  })

  it("of two hosts with one number the second is turned away once the first is known to be there still", async () => {
    const { port } = await coordinate(2, 400)
    const first = join(hostsAt(port, 1), { silenceMs: 400 })
    await said(port, 1)
    const message = await apart(join(hostsAt(port, 1), { silenceMs: 400 }))
    expect(message).toMatch(/turned away.*: there is a host 1 already, at 127\.0\.0\.1:\d+/)
    await Promise.all([first, join(hostsAt(port, 0), { silenceMs: 400 })])
  })

  it("one that begins again before its end was noticed waits for that, and comes in", async () => {
    const { port } = await coordinate(2, 400)
    // it says hello, and then nothing: its machine is gone, and no word of that comes
    const ended = new Promise((resolve) => mute(port, 1).once("close", resolve))
    await said(port, 1)
    const again = join(hostsAt(port, 1), { silenceMs: 400 })
    let early = false
    void again.then(() => (early = true))
    await Promise.race([ended, again])
    expect(early).toBe(false)
    const [one] = await Promise.all([again, join(hostsAt(port, 0), { silenceMs: 400 })])
    expect(await one.ask({ operation: "tryGet", key: "a" })).toMatchObject({ code: status.notFound })
  })

  it("a stranger's connection does not keep the coordinator", async () => {
    const { coordinator, port } = await coordinate()
    const stranger = raw(port)
    const ended = new Promise((resolve) => stranger.once("close", resolve))
    await new Promise((resolve) => stranger.once("data", resolve))
    await coordinator.close(600_000)
    await ended
  })

  it("strangers change nothing", async () => {
    const { one, port, zero } = await both()
    const answered = (text: string | Uint8Array) =>
      new Promise<string>((resolve) => {
        let heard = ""
        raw(port)
          .on("data", (piece) => (heard += piece.toString("latin1")))
          .on("close", () => resolve(heard))
          .write(text)
      })
    expect(await answered("GET / HTTP/1.1\r\nHost: x\r\n\r\n")).toMatch(/^overtone-hosts 1 [0-9a-f]{32}\n$/)
    expect(await answered(frame({ ask: 0, operation: "put", key: "a" }))).toMatch(/it did not begin with hello/)
    expect(await answered(frame({ ask: 0, operation: "put", key: "a" }, bytes("x")))).not.toMatch(/answer/)
    expect(await one.ask({ operation: "tryGet", key: "a" })).toMatchObject({ code: status.notFound })
    expect(await zero.ask({ operation: "put", key: "a", value: bytes("x") })).toEqual({ value: new Uint8Array(0) })
  })

  it("a hello of other types is turned away, and ends nobody", async () => {
    const { one, port, zero } = await both()
    // no number and no text: `String` of it throws
    const odd = { toString: 1 }
    const hello = (more: object) =>
      new Promise<string>((resolve) => {
        let heard = ""
        const socket = raw(port)
        socket.on("data", (piece) => {
          if (heard === "") {
            const proof = proofOf("word", nonceOf(piece.toString("latin1").trimEnd())!)
            const header = Buffer.from(JSON.stringify({ hello: { id: 1, count: 2, identity, proof, ...more } }))
            const sizes = Buffer.alloc(8)
            sizes.writeUInt32LE(header.length)
            socket.write(Buffer.concat([sizes, header]))
          }
          heard += piece.toString("latin1")
        })
        socket.on("close", () => resolve(heard))
      })
    expect(await hello({ proof: odd })).toMatch(/does not know the secret/)
    expect(await hello({ count: odd })).toMatch(/does not say hello as hosts of this version do/)
    expect(await hello({ identity: odd })).toMatch(/does not say hello as hosts of this version do/)
    expect(await zero.ask({ operation: "put", key: "a", value: bytes("x") })).toEqual({ value: new Uint8Array(0) })
    expect(await one.ask({ operation: "tryGet", key: "a" })).toEqual({ value: bytes("x") })
  })

  it("a deadline ends the waiting, and says for what", async () => {
    const nobody = await freePort()
    expect(await apart(join(hostsAt(nobody, 1), { deadlineMs: 1500 }))).toMatch(
      /host 1 of 2 has not come in at the coordinator at 127\.0\.0\.1:\d+ within 1\.5 s: .*ECONNREFUSED/
    )
    const { port } = await coordinate(3)
    const zero = apart(join(hostsAt(port, 0, { count: 3 }), { deadlineMs: 6000 }))
    await apart(join(hostsAt(port, 1, { count: 3, secret: "sesame" })))
    expect(await apart(join(hostsAt(port, 2, { count: 3 }), { deadlineMs: 3000 }))).toMatch(
      /host 1 has not come; turned away was/
    )
    // host 2 has given up by now, and is missed as well
    expect(await zero).toMatch(/within 6 s: host 1.* has not come/)
  })

  it("something else at the address is no coordinator; a port that is taken is none for one", async () => {
    const other = createServer((socket) => socket.end("220 smtp.example.org ESMTP\r\n"))
    const port = await listening(other)
    ends.push(() => other.close())
    expect(await apart(join(hostsAt(port, 1)))).toMatch(/what listens there is no coordinator/)
    expect(await apart(Coordinator.listen(hostsAt(port, 0), identity, 1000))).toMatch(
      /host 0 cannot listen at 127\.0\.0\.1:\d+: something else listens there; take another port/
    )
    const silent = createServer(() => undefined)
    const quiet = await listening(silent)
    ends.push(() => silent.close())
    expect(await apart(join(hostsAt(quiet, 1), { deadlineMs: 500 }))).toMatch(/the coordinator has not greeted/)
  })

  it("one that fails is heard of by those who wait, and by whoever asks later", async () => {
    const { one, zero } = await both()
    const lost = new Promise<string>((resolve) => (zero.onLost = resolve))
    const waiting = zero.ask({ operation: "get", key: "a", timeoutMs: 60_000 })
    await one.leave("No visible GPU devices")
    const gone = {
      code: status.unavailable,
      message: expect.stringMatching(/^host 1 \(.*\) is gone: No visible GPU devices$/)
    }
    expect(await waiting).toEqual(gone)
    expect(await lost).toMatch(/No visible GPU devices/)
    expect(await zero.ask({ operation: "get", key: "b", timeoutMs: 60_000 })).toEqual(gone)
  })

  it("one that ends without a word, or falls silent, is gone; one that is done is not", async () => {
    const { port } = await coordinate(2, 400)
    const zero = join(hostsAt(port, 0), { silenceMs: 400 })
    mute(port, 1)
    const member = await zero
    const lost = new Promise<string>((resolve) => (member.onLost = resolve))
    expect(await lost).toMatch(/host 1 .* is gone: nothing was heard of it for 0\.4 s/)

    const second = await both()
    const cut = new Promise<string>((resolve) => (second.one.onLost = resolve))
    await second.zero.leave(null)
    expect(await second.one.ask({ operation: "put", key: "a", value: bytes("x") })).toEqual({
      value: new Uint8Array(0)
    })
    // host 0 is gone with the coordinator
    await second.coordinator.close(0)
    expect(await cut).toMatch(/the connection to the coordinator broke off/)
    expect(await second.one.ask({ operation: "tryGet", key: "a" })).toMatchObject({ code: status.unavailable })
  })

  it("hello is the first word, however late the greeting comes", async () => {
    const silenceMs = 2000
    const first = new Promise<unknown>((resolve) => {
      const slow = createServer((socket) => {
        const frames = new Frames()
        socket.on("error", () => undefined)
        socket.on("data", (piece) => {
          frames.push(piece)
          const said = frames.next()
          if (said === undefined) return
          resolve(said.header)
          socket.end(frame({ refused: "enough", again: false }))
        })
        // after two beats
        setTimeout(() => socket.write(greeting("0123456789abcdef".repeat(2))), 0.6 * silenceMs)
      })
      ends.push(() => slow.close())
      void listening(slow).then((port) => apart(join(hostsAt(port, 1), { silenceMs })))
    })
    expect(await first).toMatchObject({ hello: { id: 1, count: 2 } })
  })

  it("one that falls silent before all have come is missed, and may come again", async () => {
    const { port } = await coordinate(2, 300)
    const ended = new Promise((resolve) => mute(port, 1).once("close", resolve))
    await ended
    const [one] = await Promise.all([0, 1].map((id) => join(hostsAt(port, 1 - id), { silenceMs: 300 })))
    expect(await one!.ask({ operation: "tryGet", key: "a" })).toMatchObject({ code: status.notFound })
  })

  it("before all have come a host may go and come again; afterwards there is no coming back", async () => {
    const { port } = await coordinate()
    const first = raw(port)
    await new Promise<void>((resolve) => {
      first.once("data", (line) => {
        const nonce = nonceOf(line.toString("latin1").trimEnd())!
        first.write(frame({ hello: { id: 1, count: 2, identity, proof: proofOf("word", nonce) } }), () => resolve())
      })
    })
    first.destroy()
    const [one] = await Promise.all([join(hostsAt(port, 1)), join(hostsAt(port, 0))])
    await one!.leave(null)
    expect(await apart(join(hostsAt(port, 1), { deadlineMs: 1500 }))).toMatch(/have come together before/)
  })
})
