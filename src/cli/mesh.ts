/** `--devices N --mesh AXIS=N,...`: the devices that share each task of a run. */
import { Effect } from "effect"
import { BadMesh, type Mesh, parseMesh } from "../device/mesh.ts"
import { misfit } from "../device/misfit.ts"
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
  const unfit = misfit(device, made)
  if (unfit === undefined) return made
  return yield* usage(`${mesh === undefined ? `--devices ${devices}` : `--mesh ${mesh}`}: ${unfit}`)
})
