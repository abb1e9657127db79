// Holds the custom resources of a stream of manifests against their published schemas, and refuses
// kinds that nobody checks. Kubernetes' own kinds are checked by kubernetes-validate.
import { readFileSync } from 'node:fs'
import { parseAllDocuments } from 'yaml'

const PACKAGES = {
  'gateway.networking.k8s.io': 'gateway-api',
  'keda.sh': 'keda',
  'monitoring.coreos.com': 'prometheus-operator',
}
const OWN = /^(v1|(apps|policy|networking\.k8s\.io)\/v1)$/

const text = readFileSync(0, 'utf8')
let checked = 0
const faults = []
for (const document of parseAllDocuments(text).map((parsed) => parsed.toJS())) {
  const { apiVersion, kind, metadata } = document
  if (OWN.test(apiVersion)) continue
  const [group] = apiVersion.split('/')
  if (!PACKAGES[group]) {
    faults.push(`${kind} ${metadata.name}: nobody checks ${apiVersion}`)
    continue
  }
  const { [kind]: model } = await import(`@kubernetes-models/${PACKAGES[group]}/${apiVersion}/${kind}`)
  try {
    new model(document).validate()
    checked += 1
  } catch (error) {
    faults.push(`${kind} ${metadata.name}: ${error.message}`)
  }
}
for (const fault of faults) console.error(fault)
console.log(`${checked} custom resources are as their schemas say`)
process.exit(faults.length > 0 ? 1 : 0)
