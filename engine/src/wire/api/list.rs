//! The list of declared APIs, for whoever does something with every one of them: tests and fuzzing.

/// Hands `callback!` every API that is declared, each as `Api Request Response;` by the names of
/// its key and its messages. A test holds the list complete.
#[doc(hidden)]
#[macro_export]
macro_rules! every_api {
    ($callback:ident) => {
        $callback! {
            ListOffsets ListOffsetsRequest ListOffsetsResponse;
            Metadata MetadataRequest MetadataResponse;
            OffsetCommit OffsetCommitRequest OffsetCommitResponse;
            OffsetFetch OffsetFetchRequest OffsetFetchResponse;
            FindCoordinator FindCoordinatorRequest FindCoordinatorResponse;
            JoinGroup JoinGroupRequest JoinGroupResponse;
            Heartbeat HeartbeatRequest HeartbeatResponse;
            LeaveGroup LeaveGroupRequest LeaveGroupResponse;
            SyncGroup SyncGroupRequest SyncGroupResponse;
            DescribeGroups DescribeGroupsRequest DescribeGroupsResponse;
            ListGroups ListGroupsRequest ListGroupsResponse;
            SaslHandshake SaslHandshakeRequest SaslHandshakeResponse;
            ApiVersions ApiVersionsRequest ApiVersionsResponse;
            CreateTopics CreateTopicsRequest CreateTopicsResponse;
            DeleteTopics DeleteTopicsRequest DeleteTopicsResponse;
            DeleteRecords DeleteRecordsRequest DeleteRecordsResponse;
            InitProducerId InitProducerIdRequest InitProducerIdResponse;
            OffsetForLeaderEpoch OffsetForLeaderEpochRequest OffsetForLeaderEpochResponse;
            AddPartitionsToTxn AddPartitionsToTxnRequest AddPartitionsToTxnResponse;
            AddOffsetsToTxn AddOffsetsToTxnRequest AddOffsetsToTxnResponse;
            EndTxn EndTxnRequest EndTxnResponse;
            TxnOffsetCommit TxnOffsetCommitRequest TxnOffsetCommitResponse;
            DescribeConfigs DescribeConfigsRequest DescribeConfigsResponse;
            AlterConfigs AlterConfigsRequest AlterConfigsResponse;
            DescribeLogDirs DescribeLogDirsRequest DescribeLogDirsResponse;
            SaslAuthenticate SaslAuthenticateRequest SaslAuthenticateResponse;
            CreatePartitions CreatePartitionsRequest CreatePartitionsResponse;
            ElectLeaders ElectLeadersRequest ElectLeadersResponse;
            ListPartitionReassignments ListPartitionReassignmentsRequest
                ListPartitionReassignmentsResponse;
            DeleteGroups DeleteGroupsRequest DeleteGroupsResponse;
            IncrementalAlterConfigs IncrementalAlterConfigsRequest IncrementalAlterConfigsResponse;
            DescribeClientQuotas DescribeClientQuotasRequest DescribeClientQuotasResponse;
            AlterClientQuotas AlterClientQuotasRequest AlterClientQuotasResponse;
            DescribeUserScramCredentials DescribeUserScramCredentialsRequest
                DescribeUserScramCredentialsResponse;
            OffsetDelete OffsetDeleteRequest OffsetDeleteResponse;
            DescribeCluster DescribeClusterRequest DescribeClusterResponse;
            DescribeProducers DescribeProducersRequest DescribeProducersResponse;
            DescribeTransactions DescribeTransactionsRequest DescribeTransactionsResponse;
            ListTransactions ListTransactionsRequest ListTransactionsResponse;
            ListConfigResources ListConfigResourcesRequest ListConfigResourcesResponse;
            DescribeTopicPartitions DescribeTopicPartitionsRequest DescribeTopicPartitionsResponse;
        }
    };
}
