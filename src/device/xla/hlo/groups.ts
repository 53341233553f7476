/**
 * Who takes part in a collective, as HloInstructionProto says it: devices in groups, each of which exchanges among itself. XLA
 * writes them in one of four ways: one by one; as whole numbers counted up, reshaped and transposed; by axes of a mesh; or, for a
 * permutation, as pairs. The numbers are those of the devices.
 */
import type { Message } from "./wire.ts"

export type Groups = ReadonlyArray<ReadonlyArray<number>>

const range = (count: number) => Array.from({ length: count }, (_, i) => i)
const product = (sizes: ReadonlyArray<number>) => sizes.reduce((n, size) => n * size, 1)

/** The coordinates of place `at` of an array, the last axis counting fastest. */
const coordinates = (at: number, sizes: ReadonlyArray<number>): ReadonlyArray<number> => {
  let rest = at
  return sizes.map((_, axis) => {
    const inner = product(sizes.slice(axis + 1))
    const own = Math.floor(rest / inner)
    rest %= inner
    return own
  })
}

/** ReplicaGroup: 1 numbers. */
const listed = (groups: ReadonlyArray<Message>): Groups => groups.map((group) => group.numbers(1))

/** IotaReplicaGroupListProto: 1 groups, 2 devices of each, 3 sizes that 0, 1, ... are shaped to, 4 the order of axes to read it in. */
const counted = (list: Message): Groups => {
  const [count, each] = [list.number(1), list.number(2)]
  const sizes = list.numbers(3)
  const order = list.numbers(4)
  const turned = order.map((axis) => sizes[axis]!)
  const read = range(count * each).map((at) => {
    const place = coordinates(at, turned)
    return sizes.reduce((id, size, axis) => id * size + place[order.indexOf(axis)]!, 0)
  })
  return range(count).map((group) => read.slice(group * each, (group + 1) * each))
}

/**
 * MeshAxesReplicaGroupListProto: 1 the mesh (1 its axes, of which 2 is the size; 2 its devices, counted up where left out), 2 the axes
 * along which there is an exchange (1 the axis, 2 of a part of it: 1 the product of the parts before, 2 its size).
 */
const alongAxes = (list: Message): Groups => {
  const mesh = list.message(1)
  const sizes = mesh?.messages(1).map((axis) => axis.number(2)) ?? []
  const ids = mesh?.numbers(2) ?? []
  const along = list.messages(2).map((axis) => {
    const of = axis.number(1)
    const part = axis.message(2)
    const [before, size] = part === undefined ? [1, sizes[of] ?? 1] : [part.number(1), part.number(2)]
    return { of, size, after: (sizes[of] ?? 1) / (before * size) }
  })
  const groups = new Map<string, Array<number>>()
  for (const at of range(product(sizes))) {
    const rest = [...coordinates(at, sizes)]
    // what is left of a coordinate without its part along the exchange
    for (const { after, of, size } of along) rest[of]! -= (Math.floor(rest[of]! / after) % size) * after
    const key = rest.join()
    groups.set(key, [...(groups.get(key) ?? []), ids[at] ?? at])
  }
  return [...groups.values()]
}

/** The groups of an instruction; none where it is no collective, or one of all devices that does not say so. */
export const groupsOf = (instruction: Message): Groups => {
  const [list, iota, axes] = [instruction.message(87), instruction.message(92), instruction.message(93)]
  if (axes !== undefined) return alongAxes(axes)
  if (iota !== undefined) return counted(iota)
  if (list !== undefined) return listed(list.messages(1))
  const pairs = instruction.messages(52)
  return pairs.length > 0 ? pairs.map((pair) => [pair.number(1), pair.number(2)]) : listed(instruction.messages(49))
}
