// What holds facts: the network, Kafka, and the secrets to reach it. ScyllaDB Cloud is peered with the network by its own
// console or Terraform provider; it holds derived tables only.
import { Duration, RemovalPolicy, SecretValue, Stack, type StackProps } from 'aws-cdk-lib'
import { GatewayVpcEndpointAwsService, InterfaceVpcEndpointAwsService, SecurityGroup, SubnetType, Vpc, Port } from 'aws-cdk-lib/aws-ec2'
import { Key } from 'aws-cdk-lib/aws-kms'
import { LogGroup, RetentionDays } from 'aws-cdk-lib/aws-logs'
import { CfnBatchScramSecret, CfnCluster, CfnConfiguration } from 'aws-cdk-lib/aws-msk'
import { Bucket, BlockPublicAccess, BucketEncryption } from 'aws-cdk-lib/aws-s3'
import { Secret } from 'aws-cdk-lib/aws-secretsmanager'
import { type Construct } from 'constructs'

export class Data extends Stack {
  readonly vpc: Vpc
  /** Whoever is in it reaches Kafka. */
  readonly clients: SecurityGroup

  /** Named, so that making the templates asks AWS nothing. */
  override get availabilityZones(): string[] {
    return ['a', 'b', 'c'].map((zone) => `${this.region}${zone}`)
  }

  constructor(scope: Construct, id: string, props: StackProps) {
    super(scope, id, props)
    this.vpc = new Vpc(this, 'Network', {
      maxAzs: 3,
      natGateways: 3,
      subnetConfiguration: [
        { name: 'public', subnetType: SubnetType.PUBLIC, cidrMask: 24 },
        { name: 'roles', subnetType: SubnetType.PRIVATE_WITH_EGRESS, cidrMask: 20 },
        { name: 'data', subnetType: SubnetType.PRIVATE_ISOLATED, cidrMask: 24 },
      ],
      gatewayEndpoints: { s3: { service: GatewayVpcEndpointAwsService.S3 } },
    })
    this.vpc.addInterfaceEndpoint('Secrets', { service: InterfaceVpcEndpointAwsService.SECRETS_MANAGER })

    this.clients = new SecurityGroup(this, 'Clients', { vpc: this.vpc, description: 'Roles of Almanac' })
    const brokers = new SecurityGroup(this, 'Brokers', { vpc: this.vpc, allowAllOutbound: false })
    brokers.addIngressRule(this.clients, Port.tcp(9096), 'SASL/SCRAM over TLS')

    const key = new Key(this, 'Key', { enableKeyRotation: true, removalPolicy: RemovalPolicy.RETAIN })
    // MSK takes SCRAM users from secrets of this prefix under a key of one's own.
    const user = new Secret(this, 'KafkaUser', {
      secretName: 'AmazonMSK_almanac',
      encryptionKey: key,
      generateSecretString: { secretStringTemplate: '{"username":"almanac"}', generateStringKey: 'password', excludePunctuation: true },
      removalPolicy: RemovalPolicy.RETAIN,
    })
    const scylla = new Secret(this, 'ScyllaUser', {
      encryptionKey: key,
      secretObjectValue: { username: SecretValue.unsafePlainText('almanac'), nodes: SecretValue.unsafePlainText('set after ScyllaDB Cloud is peered') },
    })
    scylla.applyRemovalPolicy(RemovalPolicy.RETAIN)

    const settings = new CfnConfiguration(this, 'BrokerSettings', {
      name: 'almanac',
      kafkaVersionsList: ['3.9.x'],
      serverProperties: [
        'auto.create.topics.enable=false',
        'default.replication.factor=3',
        'min.insync.replicas=2',
        'offsets.topic.replication.factor=3',
        'transaction.state.log.replication.factor=3',
        'transaction.state.log.min.isr=2',
        'unclean.leader.election.enable=false',
      ].join('\n'),
    })
    const log = new LogGroup(this, 'BrokerLog', { retention: RetentionDays.ONE_MONTH })
    const kafka = new CfnCluster(this, 'Kafka', {
      clusterName: 'almanac',
      kafkaVersion: '3.9.x',
      numberOfBrokerNodes: 3,
      configurationInfo: { arn: settings.attrArn, revision: settings.attrLatestRevisionRevision },
      brokerNodeGroupInfo: {
        instanceType: 'kafka.m7g.large',
        clientSubnets: this.vpc.selectSubnets({ subnetGroupName: 'data' }).subnetIds,
        securityGroups: [brokers.securityGroupId],
        storageInfo: { ebsStorageInfo: { volumeSize: 500 } },
      },
      // Old segments go to S3: events are kept for ever.
      storageMode: 'TIERED',
      encryptionInfo: {
        encryptionAtRest: { dataVolumeKmsKeyId: key.keyArn },
        encryptionInTransit: { clientBroker: 'TLS', inCluster: true },
      },
      clientAuthentication: { sasl: { scram: { enabled: true } }, unauthenticated: { enabled: false } },
      enhancedMonitoring: 'PER_TOPIC_PER_BROKER',
      openMonitoring: { prometheus: { jmxExporter: { enabledInBroker: true }, nodeExporter: { enabledInBroker: true } } },
      loggingInfo: { brokerLogs: { cloudWatchLogs: { enabled: true, logGroup: log.logGroupName } } },
    })
    kafka.applyRemovalPolicy(RemovalPolicy.RETAIN)
    new CfnBatchScramSecret(this, 'KafkaUsers', { clusterArn: kafka.ref, secretArnList: [user.secretArn] })

    // Exports of the registry, and of topics where a second copy is wanted outside Kafka.
    new Bucket(this, 'Backups', {
      encryption: BucketEncryption.KMS,
      encryptionKey: key,
      versioned: true,
      enforceSSL: true,
      blockPublicAccess: BlockPublicAccess.BLOCK_ALL,
      lifecycleRules: [{ noncurrentVersionExpiration: Duration.days(90) }],
      removalPolicy: RemovalPolicy.RETAIN,
    })
  }
}
