// What runs: EKS with managed nodes in three zones, where deploy/kubernetes is applied, and Cognito, who says who is who.
import { CfnOutput, RemovalPolicy, Stack, type StackProps } from 'aws-cdk-lib'
import { OAuthScope, ResourceServerScope, UserPool, FeaturePlan, Mfa } from 'aws-cdk-lib/aws-cognito'
import { type SecurityGroup, SubnetType, type Vpc } from 'aws-cdk-lib/aws-ec2'
import { Repository, TagMutability } from 'aws-cdk-lib/aws-ecr'
import { CfnAddon, CfnCluster, CfnNodegroup } from 'aws-cdk-lib/aws-eks'
import { ManagedPolicy, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam'
import { type Construct } from 'constructs'

interface RuntimeProps extends StackProps {
  vpc: Vpc
  clients: SecurityGroup
  site: string
}

/** Scopes that Almanac reads; Cognito prefixes them with the server's name, which [identity.claims.scope] maps. */
const SCOPES = ['recipes:write', 'schedules:write', 'analyses:write', 'events:read', 'operator:read', 'admin']

export class Runtime extends Stack {
  constructor(scope: Construct, id: string, props: RuntimeProps) {
    super(scope, id, props)
    const { vpc, clients, site } = props
    const managed = (name: string) => ManagedPolicy.fromAwsManagedPolicyName(name)
    const subnetIds = vpc.selectSubnets({ subnetType: SubnetType.PRIVATE_WITH_EGRESS }).subnetIds

    const cluster = new CfnCluster(this, 'Cluster', {
      name: 'almanac',
      roleArn: new Role(this, 'ClusterRole', {
        assumedBy: new ServicePrincipal('eks.amazonaws.com'),
        managedPolicies: [managed('AmazonEKSClusterPolicy')],
      }).roleArn,
      resourcesVpcConfig: { subnetIds, securityGroupIds: [clients.securityGroupId], endpointPrivateAccess: true, endpointPublicAccess: false },
      accessConfig: { authenticationMode: 'API' },
      logging: { clusterLogging: { enabledTypes: [{ type: 'audit' }, { type: 'authenticator' }] } },
    })
    const nodeRole = new Role(this, 'NodeRole', {
      assumedBy: new ServicePrincipal('ec2.amazonaws.com'),
      managedPolicies: ['AmazonEKSWorkerNodePolicy', 'AmazonEC2ContainerRegistryReadOnly', 'AmazonEKS_CNI_Policy'].map(managed),
    })
    // A group per zone: volumes of stateful roles are of a zone, and so must be the node that takes their pod over.
    for (const [index, subnet] of subnetIds.entries()) {
      new CfnNodegroup(this, `Nodes${index + 1}`, {
        clusterName: cluster.ref,
        nodeRole: nodeRole.roleArn,
        subnets: [subnet],
        instanceTypes: ['m7i.large'],
        amiType: 'AL2023_x86_64_STANDARD',
        scalingConfig: { minSize: 1, desiredSize: 1, maxSize: 6 },
        updateConfig: { maxUnavailable: 1 },
      })
    }
    // The network add-on enforces network policies only where it is told to.
    new CfnAddon(this, 'Network', { clusterName: cluster.ref, addonName: 'vpc-cni', configurationValues: '{"enableNetworkPolicy":"true"}' })
    for (const addonName of ['coredns', 'kube-proxy', 'aws-ebs-csi-driver', 'eks-pod-identity-agent']) {
      new CfnAddon(this, addonName, { clusterName: cluster.ref, addonName })
    }
    const images = new Repository(this, 'Images', {
      repositoryName: 'almanac',
      imageTagMutability: TagMutability.IMMUTABLE,
      imageScanOnPush: true,
      removalPolicy: RemovalPolicy.RETAIN,
    })

    const users = new UserPool(this, 'Users', {
      userPoolName: 'almanac',
      featurePlan: FeaturePlan.ESSENTIALS,
      mfa: Mfa.OPTIONAL,
      selfSignUpEnabled: false,
      removalPolicy: RemovalPolicy.RETAIN,
    })
    const scopes = SCOPES.map((name) => new ResourceServerScope({ scopeName: name.replace(':', '.'), scopeDescription: name }))
    const server = users.addResourceServer('Scopes', { identifier: 'almanac', scopes })
    const client = users.addClient('Page', {
      generateSecret: false,
      oAuth: {
        flows: { authorizationCodeGrant: true },
        callbackUrls: [`https://${site}/`],
        scopes: [OAuthScope.OPENID, ...scopes.map((granted) => OAuthScope.resourceServer(server, granted))],
      },
    })
    new CfnOutput(this, 'Issuer', { value: users.userPoolProviderUrl, description: 'identity.issuer' })
    new CfnOutput(this, 'Audience', { value: client.userPoolClientId, description: 'identity.audience, with audience_claim = "client_id"' })
    new CfnOutput(this, 'Image', { value: images.repositoryUri })
  }
}
