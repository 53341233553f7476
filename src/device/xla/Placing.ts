/**
 * What a device decides about its mesh: how tensors that stay lie (said where a rule cannot be followed), and how one
 * program's inputs and outputs do, which for tensors is how they lie already, for feeds how their batch is cut, and for what
 * the host reads everything everywhere.
 */
import { expand, type Program } from "../../tensor/Program.ts"
import type { Composite } from "../../tensor/Tensor.ts"
import type { TensorSpec } from "../HostTensor.ts"
import type { Mesh } from "../mesh.ts"
import { type Bucket, bucketOf, sharedBucketOf } from "./buckets.ts"
import { interleaved } from "./interleave.ts"
import { fixedShape } from "./Lowering.ts"
import type { Layouts } from "./layouts.ts"
import {
  batchWays,
  feedSpec,
  fitted,
  isBatchDim,
  laidAs,
  type Order,
  type Placement,
  placementOf,
  whole
} from "./sharding.ts"
import type { Feeds, Into } from "./Variant.ts"
import { XlaTensor } from "./XlaTensor.ts"

const ordersOf = (placements: Layouts["inputs"]): ReadonlyMap<string, Order> =>
  new Map([...placements].flatMap(([name, { order }]) => (order === undefined ? [] : [[name, order]])))

/**
 * A program of fixed sizes as it computes with tensors that lie in the order of shares.
 * @param keep composites that are left whole instead of being taken apart into primitives; none where it is left out
 */
export const inShares = (
  program: Program,
  { inputs, outputs }: Layouts,
  keep?: (definition: Composite) => boolean
): Program => expand(interleaved(program, ordersOf(inputs), ordersOf(outputs), keep), keep)

/** How what the host feeds lies: cut where the program's names say that it is a batch. */
const fedPlacement = (mesh: Mesh, source: Program, name: string, shape: ReadonlyArray<number>): Placement => {
  const named = source.inputs.get(name)?.shape
  return fitted(mesh, laidAs(named === undefined ? whole(shape.length) : feedSpec(mesh, named)), shape)
}

/** The layouts of a program whose tensors that stay are known by name alone: what is compiled before there is any device. */
export const layoutsFor = (
  mesh: Mesh,
  source: Program,
  fixed: Program,
  residents: ReadonlyMap<string, TensorSpec>
): Layouts => {
  const place = (name: string, shape: ReadonlyArray<number>): Placement | undefined => {
    const spec = residents.get(name)
    return spec && fitted(mesh, placementOf(mesh, { ...spec, shape }), shape)
  }
  const inputs = [...fixed.inputs].map(([name, x]) => {
    const shape = fixedShape(x.shape)
    return [name, place(name, shape) ?? fedPlacement(mesh, source, name, shape)] as const
  })
  const outputs = [...fixed.outputs].map(([name, x]) => {
    const shape = fixedShape(x.shape)
    const into = fixed.donate.get(name)
    return [name, (into === undefined ? undefined : place(into, shape)) ?? laidAs(whole(shape.length))] as const
  })
  return { mesh, inputs: new Map(inputs), outputs: new Map(outputs) }
}

export class Placing {
  readonly mesh: Mesh
  readonly #ways: number
  readonly #say: (note: string) => void
  readonly #said = new Set<string>()

  /** @param say is told once of each parameter that stays whole although a rule cuts its kind. */
  constructor(mesh: Mesh, say: (note: string) => void) {
    this.mesh = mesh
    this.#ways = batchWays(mesh)
    this.#say = say
  }

  /** The sizes of a dimension that share a variant: those of a batch come in equal shares. */
  readonly bucket = (name: string, size: number): Bucket =>
    isBatchDim(name) ? sharedBucketOf(name, size, this.#ways) : bucketOf(name, size)

  /** How a tensor is to lie. Throws Unshardable. */
  resident(spec: TensorSpec): { readonly mesh: Mesh; readonly placement: Placement } {
    const { left, ...placement } = placementOf(this.mesh, spec)
    // layers are alike: one note speaks for all of them
    const kind = left?.replace(/\.\d+\./g, ".*.")
    if (kind !== undefined && !this.#said.has(kind)) {
      this.#said.add(kind)
      this.#say(kind)
    }
    return { mesh: this.mesh, placement }
  }

  /** Tells apart the layouts of runs of one program. */
  key(program: Program, feeds: Feeds, into: Into): string {
    const of = (x: unknown) => (x instanceof XlaTensor ? x.layout : "")
    const inputs = [...program.inputs.keys()].map((name) => of(feeds[name]))
    return ` ${inputs.join(" ")} > ${[...program.outputs.keys()].map((name) => of(into[name])).join(" ")}`
  }

  /**
   * The layouts of a program for feeds and places of one kind.
   * @param source the program as it was loaded, whose dimensions have names
   * @param fixed the one that is compiled
   */
  layouts(source: Program, fixed: Program, feeds: Feeds, into: Into): Layouts {
    const { mesh } = this
    const inputs = [...fixed.inputs].map(([name, x]) => {
      const shape = fixedShape(x.shape)
      const feed = feeds[name]
      if (feed instanceof XlaTensor) return [name, feed.placementFor(shape)!] as const
      return [name, fedPlacement(mesh, source, name, shape)] as const
    })
    const outputs = [...fixed.outputs].map(([name, x]) => {
      const shape = fixedShape(x.shape)
      return [name, into[name]?.placementFor(shape) ?? laidAs(whole(shape.length))] as const
    })
    return { mesh, inputs: new Map(inputs), outputs: new Map(outputs) }
  }
}
