/**
 * The sessions of a device: one for each model and set of constants, shared by all who load it. Where a provider has no loops,
 * a program is one model for each number of trips (`variant`); one trip is assumed until a run says otherwise.
 */

import { createHash } from "node:crypto"
import { join } from "node:path"
import { dimText, evaluateDim } from "../../tensor/Dim.ts"
import { bindDims } from "../../tensor/interpret.ts"
import type { Program } from "../../tensor/Program.ts"
import type { Fallback } from "../Device.ts"
import { disabledOptimizers } from "./numericClass.ts"
import type { OrtTensor } from "./OrtTensor.ts"
import type { Runtime } from "./runtime.ts"
import { Session } from "./Session.ts"
import type { Gpu } from "./webgpu/Gpu.ts"
import { type Written, writeProgram } from "./writer.ts"

export interface SessionsOptions {
  /** Threads of one operator on the CPU; there, part of the numeric class. */
  readonly threads: number
  /** For a look inside: files named after the program, in this folder. */
  readonly inspect?: { readonly folder: string; readonly profile?: boolean; readonly optimizedModel?: boolean }
}

interface Shared {
  readonly session: Session
  users: number
}

type Constants = Readonly<Record<string, OrtTensor>>

/** Numbers of trips, by their text. */
type Trips = ReadonlyMap<string, number>

const oneTrip: Trips = new Map()

/** A program that somebody loaded: its session, and those for other numbers of trips. */
export interface Held {
  readonly session: Session
  /** Milliseconds that making it took; 0 where it was there. */
  readonly ms: number
  readonly keys: Set<string>
  readonly variants: Map<string, Session>
}

export class Sessions {
  /** Milliseconds of loading models. */
  loadMs = 0
  /** Nodes that run on the CPU although another device was asked for, of all programs so far. */
  readonly fallbacks = new Map<string, Fallback>()
  readonly #runtime: Runtime
  readonly #gpu: Gpu | undefined
  readonly #options: SessionsOptions
  readonly #sessions = new Map<string, Shared>()
  readonly #writtenOf = new WeakMap<Program, Map<string, { readonly written: Written; readonly digest: string }>>()
  readonly #tensorIds = new WeakMap<OrtTensor, number>()
  #nextTensor = 0
  #arena = { peak: 0, now: 0 }

  constructor(runtime: Runtime, gpu: Gpu | undefined, options: SessionsOptions) {
    this.#runtime = runtime
    this.#gpu = gpu
    this.#options = options
  }

  /** The program's session. Throws what the writer and the library throw. */
  hold(program: Program, constants: Constants): Held {
    const { key, ms, session } = this.#acquire(program, constants, oneTrip)
    return { session, ms, keys: new Set([key]), variants: new Map() }
  }

  giveUp(held: Held): void {
    for (const key of held.keys) this.#release(key)
  }

  /** The session that fits the sizes of some feeds. */
  fitting(held: Held, feeds: Readonly<Record<string, { readonly shape: ReadonlyArray<number> }>>): Session {
    const { program, written } = held.session
    if (written.unrolled.length === 0) return held.session
    const trips = tripsOf(program, written, feeds)
    if (trips === undefined) return held.session
    const text = [...trips].join(" ")
    const known = held.variants.get(text)
    if (known !== undefined) return known
    const { key, session } = this.#acquire(program, {}, trips)
    if (held.keys.has(key)) this.#release(key)
    else held.keys.add(key)
    held.variants.set(text, session)
    return session
  }

  /** The most bytes that the host's arena held at once, and holds now. */
  arena(): { readonly peak: number; readonly now: number } {
    const [any] = this.#sessions.values()
    if (any) this.#arena = any.session.arena()
    return this.#arena
  }

  #write(program: Program, constants: Constants, trips: Trips) {
    // initialisers are copied to the device for each session; fed, a constant is used where it lies
    const initialisers = this.#gpu === undefined ? Object.entries(constants) : []
    const shapes = Object.fromEntries(initialisers.map(([name, { shape }]) => [name, shape]))
    const key = JSON.stringify([shapes, ...trips])
    const known = this.#writtenOf.get(program)?.get(key)
    if (known) return known
    const { threads } = this.#options
    const provider = this.#gpu === undefined ? "cpu" : "webgpu"
    const written = writeProgram(program, { threads, provider, trips, constants: shapes })
    const made = { written, digest: createHash("sha256").update(written.model).digest("hex") }
    const all = this.#writtenOf.get(program) ?? new Map()
    this.#writtenOf.set(program, all.set(key, made))
    return made
  }

  #acquire(program: Program, constants: Constants, trips: Trips) {
    const start = process.hrtime.bigint()
    const { written, digest } = this.#write(program, constants, trips)
    const ids = written.constants.map((name) => this.#idOf(constants[name]!))
    const key = `${digest}:${ids}`
    const known = this.#sessions.get(key)
    if (known) {
      known.users++
      return { session: known.session, key, ms: 0 }
    }
    const { inspect, threads } = this.#options
    const gpu = this.#gpu
    const initialisers = Object.fromEntries(written.constants.map((name) => [name, constants[name]!]))
    const session = new Session(this.#runtime, program, written, initialisers, {
      threads,
      disabledOptimizers,
      ...(gpu === undefined ? {} : { gpu }),
      ...(inspect?.profile ? { profilePrefix: join(inspect.folder, program.name) } : {}),
      ...(inspect?.optimizedModel ? { optimizedModelFile: join(inspect.folder, `${program.name}.onnx`) } : {})
    })
    for (const { name, operator } of session.fallbacks) {
      this.fallbacks.set(`${program.name} ${name}`, { program: program.name, node: name, operator })
    }
    this.#sessions.set(key, { session, users: 1 })
    const ms = Number(process.hrtime.bigint() - start) / 1e6
    this.loadMs += ms
    return { session, key, ms }
  }

  #idOf(tensor: OrtTensor): number {
    const known = this.#tensorIds.get(tensor)
    if (known !== undefined) return known
    this.#tensorIds.set(tensor, this.#nextTensor)
    return this.#nextTensor++
  }

  #release(key: string): void {
    const shared = this.#sessions.get(key)!
    if (--shared.users > 0) return
    this.#arena = shared.session.arena()
    this.#sessions.delete(key)
    shared.session.release()
  }
}

/** The numbers of trips for some feeds; undefined where the feeds do not fit, which the run will say. */
const tripsOf = (
  program: Program,
  { unrolled }: Written,
  feeds: Readonly<Record<string, { readonly shape: ReadonlyArray<number> }>>
): Trips | undefined => {
  try {
    const dims = bindDims(program, feeds)
    return new Map(unrolled.map((dim) => [dimText(dim), evaluateDim(dim, dims)]))
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
}
