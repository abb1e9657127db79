// Almanac on AWS: three stacks, so that what holds facts is never replaced together with what runs.
import { App } from 'aws-cdk-lib'
import { Data } from '../lib/data'
import { Edge } from '../lib/edge'
import { Runtime } from '../lib/runtime'

const app = new App()
const env = {
  account: process.env.CDK_DEFAULT_ACCOUNT ?? '123456789012',
  region: process.env.CDK_DEFAULT_REGION ?? 'eu-north-1',
}
const site = app.node.tryGetContext('site') ?? 'almanac.example'
const certificateArn =
  app.node.tryGetContext('certificateArn') ??
  'arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000'
const origin = app.node.tryGetContext('origin') ?? 'origin.almanac.example'

const data = new Data(app, 'AlmanacData', { env, terminationProtection: true })
new Runtime(app, 'AlmanacRuntime', { env, vpc: data.vpc, clients: data.clients, site })
new Edge(app, 'AlmanacEdge', { env: { ...env, region: 'us-east-1' }, site, certificateArn, origin })
