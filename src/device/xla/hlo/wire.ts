/** Protocol buffers as they lie in bytes: fields by number, in the order in which they stand. Reads, and needs no schema. */

/** A field's value: a number (varint or fixed), or bytes (text, message, packed list). */
export interface Field {
  readonly number: number
  readonly value: number | Uint8Array
}

const decoder = new TextDecoder()

/** Numbers one after the other, each in seven bits a byte; negative ones are 64 bits long. */
export const varints = (bytes: Uint8Array): ReadonlyArray<number> => {
  const all: Array<number> = []
  for (let at = 0; at < bytes.length; ) {
    const [value, next] = varint(bytes, at)
    all.push(value)
    at = next
  }
  return all
}

const varint = (bytes: Uint8Array, from: number): readonly [value: number, next: number] => {
  let value = 0n
  for (let at = from, shift = 0n; at < bytes.length && shift < 70n; at++, shift += 7n) {
    const byte = bytes[at]!
    value |= BigInt(byte & 127) << shift
    if (byte < 128) return [Number(BigInt.asIntN(64, value)), at + 1]
  }
  throw new RangeError(`a number at byte ${from} of ${bytes.length} does not end`)
}

/** The fields of a message. Throws a RangeError for bytes that are none. */
export const fields = (bytes: Uint8Array): ReadonlyArray<Field> => {
  const all: Array<Field> = []
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  for (let at = 0; at < bytes.length; ) {
    const [tag, start] = varint(bytes, at)
    const [number, kind] = [Math.floor(tag / 8), tag % 8]
    const [size, from] = kind === 2 ? varint(bytes, start) : [kind === 1 ? 8 : 4, start]
    if (kind === 0) {
      const [value, next] = varint(bytes, start)
      all.push({ number, value })
      at = next
      continue
    }
    if (![1, 2, 5].includes(kind) || size < 0 || from + size > bytes.length) {
      throw new RangeError(`field ${number} at byte ${at} of ${bytes.length} is no field`)
    }
    const value =
      kind === 2
        ? bytes.subarray(from, from + size)
        : kind === 1
          ? view.getFloat64(from, true)
          : view.getFloat32(from, true)
    all.push({ number, value })
    at = from + size
  }
  return all
}

/** A message whose fields are asked for by number. */
export class Message {
  readonly #fields = new Map<number, Array<number | Uint8Array>>()

  constructor(bytes: Uint8Array) {
    for (const { number, value } of fields(bytes)) {
      const known = this.#fields.get(number)
      if (known) known.push(value)
      else this.#fields.set(number, [value])
    }
  }

  #bytes(number: number): ReadonlyArray<Uint8Array> {
    return (this.#fields.get(number) ?? []).filter((x) => typeof x !== "number")
  }

  /** 0 where it is not there, as the format has it. */
  number(field: number): number {
    const last = this.#fields.get(field)?.at(-1)
    return typeof last === "number" ? last : 0
  }

  text(field: number): string {
    return decoder.decode(this.#bytes(field).at(-1))
  }

  /** A list of whole numbers, packed or not. */
  numbers(field: number): ReadonlyArray<number> {
    return (this.#fields.get(field) ?? []).flatMap((x) => (typeof x === "number" ? [x] : varints(x)))
  }

  bytes(field: number): Uint8Array | undefined {
    return this.#bytes(field).at(-1)
  }

  message(field: number): Message | undefined {
    const bytes = this.bytes(field)
    return bytes && new Message(bytes)
  }

  messages(field: number): ReadonlyArray<Message> {
    return this.#bytes(field).map((bytes) => new Message(bytes))
  }
}
