/**
 * A loaded program: its sizes from the shapes of feeds, and a compiled variant for each set of sizes that has come up. A
 * dimension's sizes up to a bucket share a variant where `padProgram` can keep what is filled up apart.
 */
import { createHash } from "node:crypto"
import { evaluateDim } from "../../tensor/Dim.ts"
import { bindDims } from "../../tensor/interpret.ts"
import type { Program } from "../../tensor/Program.ts"
import { programDims, specialise } from "../../tensor/Program.ts"
import { print } from "../../tensor/print.ts"
import type { Tensor } from "../../tensor/Tensor.ts"
import { typeText } from "../../tensor/Tensor.ts"
import { FeedMismatch, ReleasedTensor } from "../failure.ts"
import { elementCount, holds } from "../HostTensor.ts"
import { type Bucket, bucketOf } from "./buckets.ts"
import { type PaddedProgram, type PadOptions, padProgram } from "./pad/padProgram.ts"
import { Unpaddable } from "./pad/Sizes.ts"
import type { Feeds, Into, Sizes, Variant } from "./Variant.ts"
import type { Written } from "./writer.ts"
import { sameShape } from "./XlaTensor.ts"

const digests = new WeakMap<Program, string>()

/** Equal programs, built anew, have equal digests. */
export const digestOf = (program: Program): string => {
  const known = digests.get(program)
  if (known) return known
  const digest = createHash("sha256").update(print(program)).digest("hex")
  digests.set(program, digest)
  return digest
}

/** Elements of inputs whose sizes vary: of tokens and what goes with them, and of the keys and values that generation keeps. */
export interface Places {
  readonly tokens: number
  readonly cached: number
}

const placesIn = (inputs: ReadonlyArray<readonly [name: string, shape: ReadonlyArray<number>]>): Places => {
  const sum = { tokens: 0, cached: 0 }
  // as `models/decode.ts` calls them
  for (const [name, shape] of inputs) sum[name.startsWith("cache:") ? "cached" : "tokens"] += elementCount(shape)
  return sum
}

const countKeys = (record: object): number => {
  let n = 0
  for (const _ in record) n++
  return n
}

export class ProgramEntry {
  readonly program: Program
  /** Names of dimensions. */
  readonly dims: ReadonlyArray<string>
  readonly variants = new Map<string, Variant>()
  /** How many loaded programs are this one. */
  users = 0
  /** Sizes share nothing: every set of them is compiled for itself. */
  #exact = false
  readonly #inputs: ReadonlyArray<readonly [name: string, tensor: Tensor, fixed: ReadonlyArray<number> | undefined]>

  readonly #bucket: (name: string, size: number) => Bucket

  readonly #pad: PadOptions
  readonly #takenBy = new WeakMap<Written, ReadonlySet<string>>()

  /**
   * @param bucket the sizes of a dimension that share a variant
   * @param pad what padding leaves whole
   */
  constructor(program: Program, bucket: (name: string, size: number) => Bucket = bucketOf, pad: PadOptions = {}) {
    this.#pad = pad
    this.program = program
    this.#bucket = bucket
    this.dims = programDims(program)
    this.#inputs = [...program.inputs].map(([name, x]) => {
      const numbers = x.shape.filter((dim) => typeof dim === "number")
      return [name, x, numbers.length === x.shape.length ? numbers : undefined]
    })
  }

  /** Checks feeds and places; gives the sizes of the named dimensions. Throws FeedMismatch or ReleasedTensor. */
  check(feeds: Feeds, into: Into): Sizes {
    let open = false
    for (const [name, x, fixed] of this.#inputs) {
      const feed = feeds[name]
      if (feed === undefined) throw new FeedMismatch(null, `input "${name}" (${typeText(x)}) has no feed`)
      if ("released" in feed && feed.released) throw new ReleasedTensor(feed.name)
      if (feed.dtype !== x.dtype) throw new FeedMismatch(name, `is ${name} ${typeText(x)}, not ${feed.dtype}`)
      if (fixed === undefined) open = true
      else if (!sameShape(feed.shape, fixed)) throw this.#misfit(name, feed.shape)
      if ("data" in feed) {
        const count = feed.shape.reduce((n, size) => n * size, 1)
        if (!holds(x.dtype, feed.data) || feed.data.length !== count) {
          const given = `${feed.data.constructor.name} of ${feed.data.length} elements`
          throw new FeedMismatch(name, `its ${given} is no ${feed.dtype}[${feed.shape.join(", ")}]`)
        }
      }
    }
    if (countKeys(feeds) > this.#inputs.length) {
      for (const name in feeds) if (!this.program.inputs.has(name)) throw this.#unknown("input", name)
    }
    const sizes = open ? this.#bind(feeds) : {}
    for (const name in into) {
      const output = this.program.outputs.get(name)
      if (output === undefined) throw this.#unknown("output", name)
      const place = into[name]!
      if (place.released) throw new ReleasedTensor(place.name)
      const shape = output.shape.map((dim) => evaluateDim(dim, sizes))
      if (place.dtype !== output.dtype || !sameShape(place.shape, shape)) {
        const given = `${place.dtype}[${place.shape.join(", ")}]`
        throw new FeedMismatch(name, `is ${typeText(output)}, here [${shape.join(", ")}]; ${place.name} is ${given}`)
      }
    }
    return sizes
  }

  /** The shape of an output for some sizes. */
  shapeOf(output: string, sizes: Sizes): ReadonlyArray<number> {
    return this.program.outputs.get(output)!.shape.map((dim) => evaluateDim(dim, sizes))
  }

  /** The key of all sizes that share a variant with these. */
  key(sizes: Sizes): string {
    return this.dims.map((name) => (this.#exact ? sizes[name] : this.#bucket(name, sizes[name]!).high)).join()
  }

  /** What to compile for some sizes. */
  static(sizes: Sizes): PaddedProgram {
    if (!this.#exact) {
      try {
        return padProgram(
          this.program,
          Object.fromEntries(this.dims.map((name) => [name, this.#bucket(name, sizes[name]!)])),
          this.#pad
        )
      } catch (error) {
        if (!(error instanceof Unpaddable)) throw error
        this.#exact = true
      }
    }
    return { program: specialise(this.program, sizes), scalars: () => ({}) }
  }

  /** Elements of the inputs whose sizes vary, as they are fed: of those that a compiled program takes. */
  placesOf(sizes: Sizes, written: Written): Places {
    const taken = this.#taken(written)
    const open = this.#inputs.filter(([name]) => taken.has(name))
    return placesIn(open.map(([name, x]) => [name, x.shape.map((dim) => evaluateDim(dim, sizes))]))
  }

  /** The same elements as a compiled program takes them. */
  computed(written: Written): Places {
    const taken = this.#taken(written)
    return placesIn(written.inputs.flatMap(({ name, shape }) => (taken.has(name) ? [[name, shape]] : [])))
  }

  /** The inputs whose sizes vary and whose elements some output needs. */
  #taken(written: Written): ReadonlySet<string> {
    const known = this.#takenBy.get(written)
    if (known !== undefined) return known
    const ports = new Set(written.inputs.map(({ name }) => name))
    const made = new Set(
      this.#inputs.flatMap(([name, , fixed]) => (fixed === undefined && ports.has(name) ? [name] : []))
    )
    this.#takenBy.set(written, made)
    return made
  }

  /** Gives the variants up. */
  discard(): void {
    for (const variant of this.variants.values()) variant.executable.destroy()
    this.variants.clear()
  }

  #bind(feeds: Feeds): Sizes {
    try {
      return bindDims(this.program, feeds)
    } catch (error) {
      if (!(error instanceof RangeError)) throw error
      const [, name = null] = /^input "([^"]*)"/.exec(error.message) ?? []
      throw new FeedMismatch(name, error.message)
    }
  }

  #misfit(name: string, shape: ReadonlyArray<number>): FeedMismatch {
    return new FeedMismatch(name, `[${shape.join(", ")}] does not fit ${typeText(this.program.inputs.get(name)!)}`)
  }

  #unknown(what: "input" | "output", name: string): FeedMismatch {
    const ports = what === "input" ? this.program.inputs : this.program.outputs
    const all = [...ports].map(([own, x]) => `${own} ${typeText(x)}`).join(", ")
    return new FeedMismatch(null, `there is no ${what} ${name}; it has ${all || "none"}`)
  }
}
