/**
 * What hosts say to each other, over TCP. The coordinator begins with a line, `overtone-hosts 1 NONCE`, by which a host knows
 * that it is one; all else, both ways, is frames:
 *
 *   u32 bytes of the header | u32 bytes of the value | header, JSON | value       (little endian)
 *
 * The first frame of a host must be `hello`, with a proof that it knows the shared secret: HMAC-SHA256(secret, nonce). Nothing
 * is encrypted.
 */
import { createHmac, timingSafeEqual } from "node:crypto"

/** Of absl::StatusCode, which is PJRT's. */
export const status = { deadlineExceeded: 4, notFound: 5, alreadyExists: 6, internal: 13, unavailable: 14 } as const

/** What becomes of a request: a value (empty after `put`), or an error. */
export type Answer = { readonly value: Uint8Array } | { readonly code: number; readonly message: string }

export type Operation = "get" | "put" | "tryGet"

/** One of the store's operations. */
export interface Request {
  readonly operation: Operation
  readonly key: string
  /** Of `put`. */
  readonly value?: Uint8Array
  /** Of `get`: how long to wait for the key. */
  readonly timeoutMs?: number
}

/** From a host. */
export type Said =
  | {
      readonly hello: {
        readonly id: number
        readonly count: number
        /** What it computes with; all must be alike. */
        readonly identity: string
        readonly proof: string
      }
    }
  | { readonly ask: number; readonly operation: Operation; readonly key: string; readonly timeoutMs?: number }
  | { readonly beat: true }
  /** The last word: why it cannot go on, or null where all is done. */
  | { readonly leave: string | null }

/** From the coordinator. */
export type Told =
  /** Whether to come again: what is there is about to end. */
  | { readonly refused: string; readonly again: boolean }
  /** Hosts that have not come yet, and whom it turned away last. */
  | { readonly missing: ReadonlyArray<number>; readonly turnedAway: string | null }
  | { readonly answer: number; readonly code?: number; readonly message?: string }
  | { readonly beat: true }
  | { readonly lost: string }

const version = "overtone-hosts 1"
export const greeting = (nonce: string): string => `${version} ${nonce}\n`

/** The longest greeting, in bytes. */
export const longestGreeting = 128

/** The nonce of a greeting; undefined where it is none. */
export const nonceOf = (line: string): string | undefined => {
  const [, nonce] = /^overtone-hosts 1 ([0-9a-f]{32})$/.exec(line) ?? []
  return nonce
}

export const proofOf = (secret: string, nonce: string): string =>
  createHmac("sha256", secret).update(nonce).digest("hex")

export const proves = (proof: unknown, secret: string, nonce: string): boolean => {
  if (typeof proof !== "string") return false
  const [own, other] = [Buffer.from(proofOf(secret, nonce)), Buffer.from(proof)]
  return own.length === other.length && timingSafeEqual(own, other)
}

const empty = new Uint8Array(0)

export const frame = (header: Said | Told, value: Uint8Array = empty): Uint8Array => {
  const text = Buffer.from(JSON.stringify(header), "utf8")
  const bytes = Buffer.allocUnsafe(8 + text.length + value.length)
  bytes.writeUInt32LE(text.length, 0)
  bytes.writeUInt32LE(value.length, 4)
  bytes.set(text, 8)
  bytes.set(value, 8 + text.length)
  return bytes
}

/** What came is no frame. */
export class BadFrame extends Error {}

/** The largest frames, in bytes: of a stranger, and of a host that has said hello. Keys are short; values are topologies and tuning results. */
export const limits = {
  stranger: { header: 4096, value: 0 },
  host: { header: 2 ** 16, value: 2 ** 28 }
} as const

/** Puts frames together from the pieces that a socket gives. */
export class Frames {
  limit: (typeof limits)["stranger" | "host"] = limits.stranger
  #pieces: Array<Buffer> = []
  #bytes = 0

  /** Adds a piece. */
  push(piece: Buffer): void {
    this.#pieces.push(piece)
    this.#bytes += piece.length
  }

  /** Takes `count` bytes off the front; undefined where they have not all come. */
  #take(count: number, keep = false): Buffer | undefined {
    if (this.#bytes < count) return undefined
    if (this.#pieces.length > 1 && this.#pieces[0]!.length < count) this.#pieces = [Buffer.concat(this.#pieces)]
    const first = this.#pieces[0] ?? Buffer.alloc(0)
    const taken = first.subarray(0, count)
    if (keep) return taken
    this.#pieces[0] = first.subarray(count)
    this.#bytes -= count
    return taken
  }

  /** A line and its end, at most `longest` bytes; undefined where it has not all come. Throws BadFrame where there is none. */
  line(longest: number): string | undefined {
    const seen = this.#take(Math.min(longest, this.#bytes), true)!
    const end = seen.indexOf(10)
    if (end >= 0)
      return this.#take(end + 1)!
        .subarray(0, end)
        .toString("latin1")
    if (seen.length >= longest) throw new BadFrame(`no line of ${longest} bytes`)
    return undefined
  }

  /** The next frame; undefined where it has not all come. Throws BadFrame. */
  next(): { readonly header: unknown; readonly value: Uint8Array } | undefined {
    const head = this.#take(8, true)
    if (head === undefined) return undefined
    const [header, value] = [head.readUInt32LE(0), head.readUInt32LE(4)]
    if (header > this.limit.header || value > this.limit.value)
      throw new BadFrame(`a frame of ${header} and ${value} bytes`)
    const all = this.#take(8 + header + value)
    if (all === undefined) return undefined
    try {
      const said: unknown = JSON.parse(all.subarray(8, 8 + header).toString("utf8"))
      if (typeof said !== "object" || said === null) throw new SyntaxError("no object")
      return { header: said, value: Uint8Array.from(all.subarray(8 + header)) }
    } catch {
      throw new BadFrame("a header that is no JSON object")
    }
  }
}
