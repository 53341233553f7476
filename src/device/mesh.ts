/**
 * A mesh: how the devices of one task are arranged. Device d stands at the coordinates that d has when the axes are counted
 * like digits, the last one fastest. What is laid out over which axis is the device's affair (`xla/sharding.ts`); here is
 * only what a command line says of it. Pure: plans and command lines read it without a device.
 *
 *   data   each device takes a share of every batch; weights are everywhere, gradients are summed
 *   fsdp   the same, and each device keeps a share of weights, gradients and optimizer state (ZeRO, stage 3)
 *   model  each device computes a share of every layer: heads, inner width, vocabulary (Megatron's tensor parallelism)
 */

export const meshAxes = ["data", "fsdp", "model"] as const
export type MeshAxis = (typeof meshAxes)[number]

/** Axes in their order, each of at least one device. */
export interface Mesh {
  readonly axes: ReadonlyArray<{ readonly name: MeshAxis; readonly size: number }>
}

/** The command line's mesh is none; the message says why. */
export class BadMesh extends Error {}

/** How many devices a mesh has. */
export const meshDevices = ({ axes }: Mesh): number => axes.reduce((n, { size }) => n * size, 1)

/** Devices along an axis; 1 where the mesh does not have it. */
export const axisSize = ({ axes }: Mesh, name: MeshAxis): number => axes.find((axis) => axis.name === name)?.size ?? 1

/** `data=2,model=2`. */
export const meshText = ({ axes }: Mesh): string => axes.map(({ name, size }) => `${name}=${size}`).join(",")

/** The coordinate of device number `device` along an axis of the mesh. */
export const coordinate = ({ axes }: Mesh, name: MeshAxis, device: number): number => {
  let rest = device
  for (let i = axes.length - 1; i >= 0; i--) {
    const axis = axes[i]!
    if (axis.name === name) return rest % axis.size
    rest = Math.floor(rest / axis.size)
  }
  return 0
}

/**
 * The mesh that `--devices N --mesh AXIS=N,...` asks for; undefined for one device. Without a mesh all devices are `data`;
 * without a number of devices it is the mesh's. Throws BadMesh.
 */
export const parseMesh = (devices: number | undefined, mesh: string | undefined): Mesh | undefined => {
  if (devices !== undefined && !(Number.isInteger(devices) && devices >= 1)) {
    throw new BadMesh(`--devices ${devices}: a task runs on at least one device`)
  }
  const axes = mesh === undefined ? [{ name: "data" as const, size: devices ?? 1 }] : mesh.split(",").map(parseAxis)
  const twice = axes.find(({ name }, i) => axes.findIndex((axis) => axis.name === name) !== i)
  if (twice !== undefined) throw new BadMesh(`--mesh ${mesh}: the axis ${twice.name} is named twice`)
  const made = { axes }
  const count = meshDevices(made)
  if (devices !== undefined && count !== devices) {
    const product = axes.length > 1 ? `${axes.map(({ size }) => size).join(" x ")} = ${count}` : `${count}`
    throw new BadMesh(`--mesh ${mesh} has ${product} device${count === 1 ? "" : "s"}, and --devices says ${devices}`)
  }
  return count === 1 ? undefined : made
}

const parseAxis = (text: string): Mesh["axes"][number] => {
  const [, name = text.trim(), digits] = /^\s*([^=]*?)\s*=\s*(.*?)\s*$/.exec(text) ?? []
  const known = meshAxes.find((axis) => axis === name)
  if (known === undefined) {
    throw new BadMesh(`--mesh: there is no axis "${name}"; the axes are ${meshAxes.join(", ")} (as in data=2,model=2)`)
  }
  if (digits === undefined || !/^[1-9]\d{0,4}$/.test(digits)) {
    throw new BadMesh(`--mesh: the axis ${known} needs a number of devices, as in ${known}=2, not "${text.trim()}"`)
  }
  return { name: known, size: Number(digits) }
}
