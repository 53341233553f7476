/** Whether a device has as many devices as a mesh: what can be said before any of them is opened. */
import { type Mesh, meshDevices } from "./mesh.ts"
import { cpuPlugin, mostCpuDevices } from "./xla/plugins.ts"

/**
 * Why the tasks of a device cannot be shared out over a mesh; undefined where they can, as far as is known.
 * @param cards how many there are, where that is known
 */
export const misfit = (provider: string, mesh: Mesh, cards?: number): string | undefined => {
  const wanted = meshDevices(mesh)
  if (!provider.startsWith("xla:")) {
    return `the device ${provider} is one; several share a task on XLA only (--device xla:cuda, xla:cpu)`
  }
  if (provider === cpuPlugin.provider && wanted > mostCpuDevices) {
    return `${provider} shows ${mostCpuDevices} devices at most`
  }
  if (cards === undefined || wanted <= cards) return undefined
  return `a task would take ${wanted} cards, and there ${cards === 1 ? "is one" : `are ${cards}`}`
}
