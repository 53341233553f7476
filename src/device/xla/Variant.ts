/**
 * A program compiled for one set of sizes. It copies host tensors to the device, hands device tensors over as they lie (or
 * laid out anew where their buffers have other sizes), and leaves outputs where they are wanted.
 */
import type { HostTensor, TypedArray } from "../HostTensor.ts"
import type { Client } from "./Client.ts"
import type { Executable } from "./Executable.ts"
import type { Layouts } from "./layouts.ts"
import type { Places } from "./ProgramEntry.ts"
import { gatherUp, type Laid, lay } from "./Spread.ts"
import { specText } from "./sharding.ts"
import type { Port, Written } from "./writer.ts"
import { copyCorner, sameShape, type XlaTensor, zerosOf } from "./XlaTensor.ts"

export type Feeds = Readonly<Record<string, HostTensor | XlaTensor>>
/** Sizes of named dimensions. */
export type Sizes = Readonly<Record<string, number>>
export type Into = Readonly<Record<string, XlaTensor>>

/** What a run leaves behind before its event is settled. */
export interface Started {
  /** One a device. */
  readonly events: ReadonlyArray<bigint>
  /** Outputs for the host, by name, with the shape that they have for the caller. */
  readonly fetched: ReadonlyArray<{ readonly name: string; readonly buffer: Laid }>
  /** Buffers that are of no use after the run. */
  readonly spent: ReadonlyArray<Laid>
}

export class Variant {
  readonly client: Client
  readonly executable: Executable
  readonly written: Written
  /** How it lies on a mesh; undefined on one device. */
  readonly layouts: Layouts | undefined
  /** Bytes of intermediate values. */
  readonly temporary: number
  /** Elements of the inputs whose sizes vary, as computed: what padding is a share of. */
  places: Places = { tokens: 0, cached: 0 }
  /** Over a mesh: bytes that come of one device's collectives in a run. */
  moved = 0
  readonly #scalars: (sizes: Sizes) => Readonly<Record<string, Int32Array>>
  readonly #donated: ReadonlyArray<{ readonly output: string; readonly at: number }>

  /** @param scalars the scalar inputs that a padded program takes, by name, for sizes. */
  constructor(
    client: Client,
    executable: Executable,
    written: Written,
    layouts: Layouts | undefined,
    scalars: (sizes: Sizes) => Readonly<Record<string, Int32Array>>
  ) {
    this.#scalars = scalars
    this.client = client
    this.executable = executable
    this.written = written
    this.layouts = layouts
    this.temporary = executable.memory()?.temporary ?? 0
    const places = new Map(written.inputs.map(({ name }, i) => [name, i]))
    this.#donated = [...written.donate].map(([output, input]) => ({ output, at: places.get(input)! }))
  }

  #put({ dtype, name, shape }: Port, data: TypedArray): Laid {
    return lay(this.client, this.layouts?.mesh, data, dtype, shape, this.layouts?.inputs.get(name))
  }

  /** A host tensor on the device, filled up with zeros to the port's sizes. */
  #upload(port: Port, feed: { readonly shape: ReadonlyArray<number>; readonly data: TypedArray }): Laid {
    if (sameShape(feed.shape, port.shape)) return this.#put(port, feed.data)
    const filled = zerosOf(port.dtype, port.shape)
    copyCorner(feed.data, feed.shape, filled, port.shape)
    return this.#put(port, filled)
  }

  /** Whether a buffer is what the program takes at a port. */
  #fits(port: Port, { placement, shape }: Laid): boolean {
    if (!sameShape(shape, port.shape)) return false
    const wanted = this.layouts?.inputs.get(port.name)
    return wanted === undefined || placement === undefined || specText(wanted.spec) === specText(placement.spec)
  }

  /** A tensor's buffer in other sizes, by way of the host: rare, as programs of one set of sizes share their tensors. */
  #relaid(port: Port, tensor: XlaTensor, buffer: Laid): Laid {
    const { events, finish } = gatherUp(this.client, this.layouts?.mesh, buffer, zerosOf)
    for (const event of events) this.client.pjrt.awaitEvent(event)
    const own = zerosOf(port.dtype, tensor.shape)
    copyCorner(finish(), buffer.shape, own, tensor.shape)
    return this.#upload(port, { shape: tensor.shape, data: own })
  }

  /** Starts a run with feeds that fit the program and have these sizes. */
  start(feeds: Feeds, into: Into, sizes: Sizes): Started {
    const spent: Array<Laid> = []
    try {
      return { ...this.#started(feeds, into, sizes, spent), spent }
    } catch (error) {
      for (const buffer of spent) buffer.destroy()
      throw error
    }
  }

  /** Starts the program; what is needed once goes to `spent`. */
  #started(feeds: Feeds, into: Into, sizes: Sizes, spent: Array<Laid>): Omit<Started, "spent"> {
    const scalars = this.#scalars(sizes)
    const once = (buffer: Laid): Laid => {
      spent.push(buffer)
      return buffer
    }
    const inputs = this.written.inputs.map((port): Laid => {
      const feed = feeds[port.name]
      if (feed === undefined) return once(this.#put(port, scalars[port.name]!))
      if ("data" in feed) return once(this.#upload(port, feed))
      const buffer = feed.need(port.shape)
      return this.#fits(port, buffer) ? buffer : once(this.#relaid(port, feed, buffer))
    })
    // an argument may be overwritten if it is a tensor that the output goes to, and no other argument
    const keep = this.#donated.flatMap(({ at, output }) => {
      const { name } = this.written.inputs[at]!
      const place = into[output]
      const given = feeds[name]
      const own = place !== undefined && given === place && inputs[at] === place.buffer
      const shared = own && inputs.some((buffer, i) => i !== at && buffer === inputs[at])
      return own && !shared ? [] : [at]
    })
    const { events, outputs } = this.executable.start(inputs, keep)
    const fetched: Array<Started["fetched"][number]> = []
    this.written.outputs.forEach(({ name }, i) => {
      const place = into[name]
      if (place !== undefined) place.adopt(outputs[i]!)
      else fetched.push({ name, buffer: once(outputs[i]!) })
    })
    return { events, fetched }
  }
}
