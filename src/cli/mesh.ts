/** `--devices N --mesh AXIS=N,...`: the devices that share each task of a run. */
import { Effect } from "effect"
import { BadMesh, type Mesh, meshDevices, parseMesh } from "../device/mesh.ts"
import { cpuPlugin, mostCpuDevices } from "../device/xla/plugins.ts"
import { usage } from "./failure.ts"

const parsedMesh = (devices: number | undefined, mesh: string | undefined): Mesh | undefined | BadMesh => {
  try {
    return parseMesh(devices, mesh)
  } catch (error) {
    if (error instanceof BadMesh) return error
    throw error
  }
}

/** The devices that share a task, of those that `device` has. */
export const meshOf = Effect.fnUntraced(function* (
  device: string,
  devices: number | undefined,
  mesh: string | undefined
) {
  const made = parsedMesh(devices, mesh)
  if (made instanceof BadMesh) return yield* usage(made.message)
  if (made === undefined) return made
  const asked = mesh === undefined ? `--devices ${devices}` : `--mesh ${mesh}`
  if (!device.startsWith("xla:")) {
    return yield* usage(
      `${asked}: the device ${device} is one; several share a task on XLA only (--device xla:cuda, xla:cpu)`
    )
  }
  if (device === cpuPlugin.provider && meshDevices(made) > mostCpuDevices) {
    return yield* usage(`${asked}: ${device} shows ${mostCpuDevices} devices at most`)
  }
  return made
})
